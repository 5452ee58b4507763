"""Every family under the contract of formats."""

from __future__ import annotations

import pytest
from contracts.formats import FormatContract

from evonas.formats import (
    Binary,
    BlockFloat,
    BlockLog,
    BlockMinifloat,
    Fixed,
    Float32,
    Format,
    Integer,
    Log,
    Minifloat,
    MXFloat,
    MXInt,
    Ternary,
)


class TestFloat32(FormatContract):
    @pytest.fixture
    def format(self) -> Format:
        return Float32()


class TestFixed(FormatContract):
    @pytest.fixture(params=[(1, 0), (2, 1), (8, 4), (8, -2), (8, 12), (11, 3), (16, 8), (24, 10)], ids=str)
    def format(self, request: pytest.FixtureRequest) -> Format:
        return Fixed(*request.param)


class TestInteger(FormatContract):
    @pytest.fixture(
        params=[
            Integer(8, scale=0.03),
            Integer(4, narrow=True, scale=0.37),
            Integer(2, scale=1.0),
            Integer(3, signed=False, scale=0.5),
            Integer(1, signed=False, scale=0.7),
            Integer(8, affine=True, scale=0.021, zero=-37),
            Integer(4, signed=False, affine=True, scale=0.1, zero=7),
            Integer(4, per_channel=True, scale=(0.31, 0.025)),
            Integer(8, affine=True, per_channel=True, scale=(0.31, 0.025), zero=(3, -128)),
        ],
        ids=str,
    )
    def format(self, request: pytest.FixtureRequest) -> Format:
        assert isinstance(request.param, Integer)
        return request.param


class TestMinifloat(FormatContract):
    @pytest.fixture(
        params=[
            Minifloat(8, 4),
            Minifloat(8, 4, "ieee"),
            Minifloat(8, 4, "fnuz"),
            Minifloat(8, 5),
            Minifloat(8, 4, "fnuz", bias=11),
            Minifloat(8, 4, bias=-3),
            Minifloat(6, 3),
            Minifloat(6, 2),
            Minifloat(4, 2),
            Minifloat(4, 3, "finite"),
            Minifloat(3, 1, "finite"),
            Minifloat(5, 2, "ieee"),
            Minifloat(12, 8, "fnuz"),
            Minifloat(13, 5),
        ],
        ids=str,
    )
    def format(self, request: pytest.FixtureRequest) -> Format:
        assert isinstance(request.param, Minifloat)
        return request.param


class TestLog(FormatContract):
    @pytest.fixture(params=[(2, 0), (3, 1), (4, 0), (4, -3), (5, 3), (8, 10)], ids=str)
    def format(self, request: pytest.FixtureRequest) -> Format:
        return Log(*request.param)


class TestBinary(FormatContract):
    @pytest.fixture(
        params=[Binary(), Binary(True, scale=0.3), Binary(True, True, scale=(0.3, 1.7))],
        ids=str,
    )
    def format(self, request: pytest.FixtureRequest) -> Format:
        assert isinstance(request.param, Binary)
        return request.param


class TestTernary(FormatContract):
    @pytest.fixture(
        params=[Ternary(), Ternary(True, scale=0.3), Ternary(True, True, scale=(0.3, 1.7))],
        ids=str,
    )
    def format(self, request: pytest.FixtureRequest) -> Format:
        assert isinstance(request.param, Ternary)
        return request.param


class TestBlockFloat(FormatContract):
    @pytest.fixture(params=[(6, 16), (2, 4), (4, 5), (8, 64), (12, 1), (6, 2, 0)], ids=str)
    def format(self, request: pytest.FixtureRequest) -> Format:
        return BlockFloat(*request.param)


class TestBlockMinifloat(FormatContract):
    @pytest.fixture(params=[(6, 3, 16), (8, 4, 7), (4, 2, 32), (4, 3, 8), (8, 5, 2, 0)], ids=str)
    def format(self, request: pytest.FixtureRequest) -> Format:
        return BlockMinifloat(*request.param)


class TestBlockLog(FormatContract):
    @pytest.fixture(params=[(4, 16), (2, 8), (3, 5), (8, 64), (4, 2, 0)], ids=str)
    def format(self, request: pytest.FixtureRequest) -> Format:
        return BlockLog(*request.param)


class TestMXInt(FormatContract):
    @pytest.fixture(params=[(8,), (4,), (2,)], ids=str)
    def format(self, request: pytest.FixtureRequest) -> Format:
        return MXInt(*request.param)


class TestMXFloat(FormatContract):
    @pytest.fixture(params=[(8, 4), (8, 5), (6, 3), (6, 2), (4, 2)], ids=str)
    def format(self, request: pytest.FixtureRequest) -> Format:
        return MXFloat(*request.param)
