"""Specs: every family reads back, and an error says where the text goes wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evonas.errors import InvalidArgument
from evonas.formats import FAMILIES, Float32, Format, Integer, parse

_SPECS = """
fixed8 fixed8.4 fixed8.-2 fixed24.12 float32 int8 int4c int4c1 int4c-1 int4n int4nc int8a int8ac uint8 uint8a
uint4c2 int8@0.5 int8a@0.5:-3 int4c@0.5/0.25/1e-05 int4ac1@0.5:1/0.25:-8 fp8e4m3 fp8e4m3ieee fp8e4m3fnuz
fp8e4m3fnuzb11 fp8e4m3bfit fp8e4m3b-2o fp8e5m2 fp8e5m2o fp16e5m10 fp6e3m2 fp4e2m1 fp4e3m0finite log4 log4.0
log4.-3 binary binarys binarysc binarysc1 binarys@0.5 binarysc@0.5/0.25 ternary ternarys ternarysc ternarysc-1
ternarys@0.123 bfp6b16 bfp6b16a1 bfp6b16a0 bm6e3m2b16 bm6e3m2b16a1 blog4b16 blog4b16a-2 mxint8 mxint8a1
mxfp8e4m3 mxfp8e5m2 mxfp6e3m2 mxfp6e2m3 mxfp4e2m1 mxfp4e2m1a1
""".split()  # noqa: SIM905


@pytest.mark.parametrize("spec", _SPECS)
def test_reads_back(spec: str) -> None:
    format = parse(spec)
    assert format.spec == spec
    assert parse(format.spec) == format
    assert format.width >= 1


def test_every_family_is_covered() -> None:
    assert {type(parse(spec)) for spec in _SPECS} == set(FAMILIES)


@pytest.mark.parametrize(
    ("spec", "where"),
    [
        ("", "begins like no format"),
        ("8", "begins like no format"),
        ("foo8", "begins like no format"),
        (" fixed8", "begins like no format"),
        ("FIXED8", "begins like no format"),
        ("fixed", "at its end: expected a width in bits"),
        ("fixedx", "begins like no format"),
        ("fixed8.x", "at character 8, `x`: expected a fraction width"),
        ("fixed8.", "at its end: expected a fraction width"),
        ("fixed8.4.2", "at character 9, `.`"),
        ("fixed8 ", "at character 7, ` `"),
        ("fixed8\n", r"at character 7, `\n`"),
        ("fixed8,4", "at character 7, `,`"),
        ("fixed\u0668", "at character 6"),
        ("fixed" + "9" * 5000, "at character 6"),
        ("float16", "at character 6, `1`"),
        ("int4x", "at character 5, `x`"),
        ("int8@", "at its end: expected a scale"),
        ("int8@x", "at character 6, `x`"),
        ("int8@1e999", "at character 6, `1`"),
        ("int8a@1", "at its end: expected `:`"),
        ("int8@1:3", "at character 7, `:`"),
        ("int4c@0.5/", "at its end"),
        ("uint4n", "at character 6, `n`"),
        ("fp8", "at its end: expected `e`"),
        ("fp8e4m3x", "at character 8, `x`"),
        ("fp8e4m3b", "at its end: expected a bias"),
        ("fp8e4m4", "does not add up"),
        ("log4.", "at its end: expected the top exponent"),
        ("binary@1", "at character 7, `@`"),
        ("ternarys@", "at its end: expected a scale"),
        ("bfp6", "at its end: expected `b`"),
        ("bfp6b", "at its end: expected the elements of a block"),
        ("bfp6b16a", "at its end: expected an axis"),
        ("mxint8x", "at character 7, `x`"),
        ("mxfp4e2m1b16", "at character 10, `b`"),
        ("mxfp5e2m2", "no MXFP format has 5 bits"),
        ("fixed99", "1 to 24, got 99"),
        ("fixed8.61", "-60 to 60, got 61"),
        ("bfp6b0", "got 0"),
    ],
)
def test_says_where(spec: str, where: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse(spec)
    message = str(caught.value)
    assert where in message
    assert "\n" not in message
    assert len(message) < 300


@pytest.mark.parametrize("spec", [None, 8, b"fixed8", ["fixed8"]])
def test_only_text_is_a_spec(spec: object) -> None:
    with pytest.raises(InvalidArgument, match="must be text"):
        parse(spec)  # type: ignore[arg-type]


def _parses_or_fails_in_one_line(text: str) -> None:
    message = ""
    try:
        assert isinstance(parse(text), Format)
    except InvalidArgument as error:
        message = str(error)
    assert "\n" not in message


@given(st.one_of(st.text(max_size=20), st.text("fixedintuplogbamy0123456789.@:/-cnaeE\n", max_size=20)))
def test_any_text(text: str) -> None:
    _parses_or_fails_in_one_line(text)


@given(st.integers(0, 70), st.sampled_from(_SPECS), st.text("0123456789.@cnaeb-", min_size=1, max_size=2))
def test_edited_specs(at: int, spec: str, extra: str) -> None:
    _parses_or_fails_in_one_line(spec[:at] + extra + spec[at:])


@given(st.lists(st.floats(2.0**-126, 2.0**100), min_size=1, max_size=5))
def test_scales_read_back_exactly(scales: list[float]) -> None:
    format = Integer(4, per_channel=True, scale=tuple(scales))
    assert parse(format.spec) == format


def test_float32_leaves_values_alone() -> None:
    assert parse("float32") == Float32()
    assert Float32().bits(10) == 320
