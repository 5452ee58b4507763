"""Number formats: frozen dataclasses with pure tensor functions, one family a file."""

from __future__ import annotations

from evonas.errors import InvalidArgument
from evonas.formats.base import Format
from evonas.formats.fixed import Fixed, Float32

__all__ = ["FAMILIES", "Fixed", "Float32", "Format", "parse"]

FAMILIES: tuple[type[Fixed] | type[Float32], ...] = (Fixed, Float32)


def parse(spec: str) -> Format:
    """The format that `spec` names, such as `fixed8`, `fixed8.4` or `float32`.

    Raises:
        InvalidArgument: no family knows the text, or a width is out of range.
    """
    for family in FAMILIES:
        found = family.parse(spec)
        if found is not None:
            return found
    raise InvalidArgument(f"format `{spec}` does not parse; expected one like `fixed8`, `fixed8.4` or `float32`")
