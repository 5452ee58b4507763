"""The place of a node in the user's words."""

from __future__ import annotations

import os
import re

import torch
from torch import fx

__all__ = ["where"]

_TORCH = os.path.dirname(torch.__file__)
_HERE = os.path.dirname(__file__)
_QUOTE = 60  # characters of the user's line that a reason quotes


def where(node: fx.Node) -> str:
    """The place of `node` in the user's words: the quoted line, with file and number when they are known."""
    frames = re.findall(r'File "(.+)", line (\d+), in .*\n\s*(.*)', node.stack_trace or "")
    users = [f for f in frames if not f[0].startswith((_TORCH, _HERE))]
    if not users:
        return f"`{node.target if node.op in ('call_module', 'call_method') else node.name}`"
    path, line, code = users[-1]
    code = code.strip()
    code = code if len(code) <= _QUOTE else code[: _QUOTE - 3] + "..."
    return f"`{code}` ({os.path.basename(path)}:{line})" if code else f"`{node.name}` ({path}:{line})"
