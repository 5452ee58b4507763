"""How the tests run the real command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from evonas.cli import main

COMMAND = (sys.executable, "-m", "evonas")


def run_process(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    return subprocess.run([*COMMAND, *arguments], cwd=cwd, capture_output=True, text=True, timeout=300, check=False)


def run_here(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """The same entry point in this process, which spares the imports: exit code, stdout, stderr."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    captured = capsys.readouterr()
    code = ended.value.code
    return (code if isinstance(code, int) else 0), captured.out, captured.err
