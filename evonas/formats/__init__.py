"""Number formats: frozen dataclasses with pure tensor functions, one family a file.

- `float32`: not quantized.
- `fixed8`, `fixed8.4`: fixed point; the fraction width is left to calibration, or given.
- `int4`, `uint4`, `int8n`, `int8a`, `int4c`, `int4c1`: scaled integers; unsigned, narrow, affine, one scale
  per channel (along axis 1). With scales and zero points known: `int8@0.5`, `int8a@0.5:3`, `int4c@0.5/0.25`.
- `fp8e4m3`, `fp8e4m3ieee`, `fp8e4m3fnuz`, `fp5e2m2finite`: minifloats, with the meaning of their top codes;
  `fp8e4m3b11` and `fp8e4m3bfit`: a bias given, or left to calibration; `fp16e5m10o`: overflow is not clipped.
- `log4`, `log4.-3`: signed powers of two and zero; the top exponent is left to calibration, or given.
- `binary`, `binarys`, `binarysc`, and the same of `ternary`: bare, scaled, per channel; `ternarys@0.5`.
- `bfp6b16`, `bm6e3m2b16`, `blog4b16`: block floating point, block minifloat and block log, where 16 elements
  along the last axis share an exponent; `bfp6b16a1`: along axis 1.
- `mxint8`, `mxfp8e4m3`, `mxfp8e5m2`, `mxfp6e3m2`, `mxfp6e2m3`, `mxfp4e2m1`: OCP MX; `mxfp4e2m1a1` as above.
"""

from __future__ import annotations

from evonas.errors import InvalidArgument
from evonas.formats.base import Format
from evonas.formats.binary import Binary, Ternary
from evonas.formats.block import BlockFloat, BlockLog, BlockMinifloat
from evonas.formats.calibration import METHODS
from evonas.formats.fixed import Fixed, Float32
from evonas.formats.integer import Integer
from evonas.formats.log import Log
from evonas.formats.minifloat import Minifloat
from evonas.formats.mx import MXFloat, MXInt
from evonas.formats.specs import shown

__all__ = [
    "FAMILIES",
    "METHODS",
    "Binary",
    "BlockFloat",
    "BlockLog",
    "BlockMinifloat",
    "Fixed",
    "Float32",
    "Format",
    "Integer",
    "Log",
    "MXFloat",
    "MXInt",
    "Minifloat",
    "Ternary",
    "parse",
    "parse_list",
]

FAMILIES: tuple[type[Format], ...] = (
    Fixed,
    Float32,
    Integer,
    Minifloat,
    Log,
    Binary,
    Ternary,
    BlockFloat,
    BlockMinifloat,
    BlockLog,
    MXInt,
    MXFloat,
)

_EXAMPLES = (
    "`fixed8.4`, `float32`, `int4c`, `uint8`, `fp8e4m3`, `log4`, `binary`, `ternary`, `bfp6b16`,"
    " `bm6e3m2b16`, `blog4b16`, `mxint8` or `mxfp4e2m1`"
)


def parse(spec: str) -> Format:
    """The format that `spec` names, such as `fixed8`, `fixed8.4`, `int4c`, `fp8e4m3` or `float32`.

    Each family documents its own specs; `parse(format.spec) == format` for all.

    Raises:
        InvalidArgument: no family knows the text (the message says where it goes wrong), or a number in it
            is out of range.
    """
    if not isinstance(spec, str):
        raise InvalidArgument(f"a format spec must be text such as `fixed8.4`, got {type(spec).__name__}")
    for family in FAMILIES:
        found = family.parse(spec)
        if found is not None:
            return found
    raise InvalidArgument(
        f"format `{shown(spec)}` does not parse: it begins like no format; expected one like {_EXAMPLES}"
    )


def parse_list(specs: str) -> tuple[Format, ...]:
    """The formats that `specs` names, separated by commas: `fixed4,int8c,mxfp4e2m1`.

    Raises:
        InvalidArgument: one that does not parse, or is empty: which.
    """
    given = [spec.strip() for spec in specs.split(",")]
    if "" in given:
        fault = f"entry {given.index('') + 1} of {len(given)} is empty" if any(given) else "they name none"
        raise InvalidArgument(f"formats `{shown(specs)}`: {fault}; expected specs such as `fixed4,fixed8,fp8e4m3`")
    return tuple(map(parse, given))
