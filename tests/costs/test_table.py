"""Latency tables: look-up, interpolation, and files that cannot be used."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evonas.chains import Chain, Extent
from evonas.costs import cost, load_latency
from evonas.costs.table import load_table
from evonas.errors import EvonasError, InvalidArgument, UnknownName
from evonas.formats import Fixed
from evonas.plan import Layer, Network, PlanSpace
from evonas.space import Gene


def seconds(inputs: float, outputs: float, width: float) -> float:
    """A time that is linear in each of three numbers, so that interpolation is exact."""
    return 1e-6 * (1 + inputs) * (2 + outputs) * (3 + width)


def point(inputs: int, outputs: int, width: int) -> dict[str, float]:
    middle = seconds(inputs, outputs, width)
    return {"inputs": inputs, "outputs": outputs, "width": width, "q1": middle / 2, "median": middle, "q3": middle * 2}


def content(batch: int = 1) -> dict[str, Any]:
    """Linear layers of 4 to 64 inputs and 2 to 40 outputs in 4 to 16 bits, and ReLUs."""
    linear = [point(i, o, w) for i in (4, 10, 64) for o in (2, 7, 40) for w in (4, 16)]
    relu = [point(c, c, 32) for c in (2, 40)]
    shape = {"taps": 1, "positions": 1, "input_positions": 1}
    layers = [{"kind": "linear", **shape, "points": linear}, {"kind": "relu", **shape, "points": relu}]
    return {"evonas_latency": 1, "machine": "none", "batch": batch, "threads": 1, "layers": layers}


def written(folder: Path, what: Any) -> str:
    path = folder / "table.json"
    path.write_text(what if isinstance(what, str) else json.dumps(what))
    return str(path)


def space(outputs: int = 20, widths: tuple[int, ...] = (4, 8, 16)) -> PlanSpace:
    chain = Chain("c", outputs)
    layers = (
        Layer("fc1", "linear", Extent(8), Extent.of(chain)),
        Layer("relu", "relu", Extent.of(chain), Extent.of(chain)),
        Layer("fc2", "linear", Extent.of(chain), Extent(5)),
    )
    formats = tuple(Fixed(width) for width in widths)
    genes = [Gene("c", (0.25, 0.5, 1.0, 1.5))]
    genes += [Gene(f"{layer}.{slot}", formats) for layer in ("fc1", "fc2") for slot in ("data_in", "weight")]
    return PlanSpace(Network(layers, (chain,)), genes)


@given(seed=st.integers(0, 2**32))
def test_a_sum_of_interpolated_layers(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("table")
    made, batch = space(), 4
    source = load_latency(f"table:{written(folder, content(batch))}")
    genomes = made.space.sample(5, np.random.default_rng(seed))
    for genome, found in zip(genomes, cost("latency", made.plans(genomes), source), strict=True):
        plan = made.plan(genome)
        expected = sum(
            seconds(layer.inputs, layer.outputs, max(layer.data_in.width, layer.weight.width)) for layer in plan.layers
        )
        # between two measured points a ReLU is a straight line
        low, high, channels = seconds(2, 2, 32), seconds(40, 40, 32), dict(plan.channels)["c"]
        expected += low + (high - low) * (channels - 2) / 38
        assert found == pytest.approx(1e6 * expected / batch, rel=1e-9)


def test_a_narrow_operand_takes_the_time_of_the_narrowest(tmp_path: Path) -> None:
    source = load_latency(f"table:{written(tmp_path, content())}")
    narrow, four = (space(widths=(width,)).plans(np.zeros((1, 5), dtype=np.int64)) for width in (2, 4))
    assert cost("latency", narrow, source) == cost("latency", four, source)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (
            space(outputs=28),
            r"does not cover `fc1` \(linear, 1 positions\) with 8 inputs, 42 outputs and 16 bits; add it",
        ),
        (
            space(widths=(24,)),
            r"does not cover `fc1` .* and 24 bits; add it with `evonas profile FILE\.py:VARIABLE",
        ),
    ],
)
def test_what_is_not_covered_is_named(made: PlanSpace, message: str, tmp_path: Path) -> None:
    source = load_latency(f"table:{written(tmp_path, content())}")
    with pytest.raises(InvalidArgument, match=message):
        cost("latency", made.plans(made.space.corners()), source)


def test_a_shape_that_was_never_measured(tmp_path: Path) -> None:
    layer = Layer("conv", "conv", Extent(8), Extent(8), Extent(1), taps=9, positions=16, input_positions=16)
    made = PlanSpace(Network((layer,)), [Gene("conv.weight", (Fixed(8), Fixed(4)))])
    source = load_latency(f"table:{written(tmp_path, content())}")
    with pytest.raises(InvalidArgument, match=r"does not cover `conv` \(conv, 9 taps, depthwise, 16 positions\)"):
        cost("latency", made.plans(made.space.corners()), source)


def test_what_whole_networks_take_beyond_the_sum_is_added_once(tmp_path: Path) -> None:
    made = space()
    plans = made.plans(made.space.corners())
    plain = load_table(written(tmp_path, content(batch=2))).seconds(plans)
    whole = {"networks": 8, "factor": 1.25, "offset": 3e-4}
    table = load_table(written(tmp_path, content(batch=2) | {"whole": whole}))
    assert table.seconds(plans) == pytest.approx(1.25 * plain + 1.5e-4)


def broken(path: str, value: Any) -> dict[str, Any]:
    """The good table with one thing changed; `del` removes it."""
    table = copy.deepcopy(content())
    *parents, last = [int(part) if part.isdecimal() else part for part in path.split(".")]
    place: Any = table
    for parent in parents:
        place = place[parent]
    if value == "del":
        del place[last]
    else:
        place[last] = value
    return table


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("{", "is not JSON"),
        ("[1]", "must begin with `evonas_latency` = 1"),
        (broken("evonas_latency", 2), "must begin with `evonas_latency` = 1"),
        (broken("batch", "del"), "has no `batch`"),
        (broken("batch", 0), "`batch` must be a positive whole number, got 0"),
        (broken("threads", 1.5), "`threads` must be a positive whole number, got 1.5"),
        (broken("layers", []), "`layers` must be a list of at least one layer"),
        (broken("layers.0", 3), r"`layers\[0\]` must be an object, got int"),
        (broken("layers.0.kind", "pool"), "`pool`; valid names"),
        (broken("layers.0.colour", "red"), r"`layers\[0\].colour`; valid names"),
        (broken("layers.0.taps", "del"), r"has no `layers\[0\].taps`"),
        (broken("layers.0.points", "del"), r"`layers\[0\].points` must be a list"),
        (
            broken("layers.0.points.0.median", -1.0),
            r"`layers\[0\].points\[0\].median` must be a positive number, got -1.0",
        ),
        (broken("layers.0.points.0.median", "del"), r"has no `layers\[0\].points\[0\].median`"),
        (broken("layers.0.points.0.median", True), r"must be a positive number, got True"),
        (broken("layers.0.points.0.q1", 1.0), "must have q1 <= median <= q3"),
        (broken("layers.0.points.0", "del"), r"has no point for inputs 4, outputs 2, width 4; every combination"),
        (content() | {"whole": 3}, "`whole` must be an object, got int"),
        (content() | {"whole": {"networks": 8, "offset": 0}}, "has no `whole.factor`"),
        (
            content() | {"whole": {"factor": 1.0, "offset": -1e-6}},
            "`whole.offset` must be a positive number, got -1e-06",
        ),
        (broken("layers.1.points.0.inputs", 3), "must have as many inputs as outputs"),
    ],
)
def test_a_file_that_cannot_be(what: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises((InvalidArgument, UnknownName), match=message):
        load_table(written(tmp_path, what))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("guess:3", "unknown source of latency `guess`; valid names"),
        ("roofline:", "names no device; expected a device, such as roofline:pynq-z1"),
        ("table:", "names no file; expected a file, such as table:cpu.json"),
        ("table:gone.json", "does not exist; make it with `evonas profile FILE.py:VARIABLE --out gone.json`"),
        ("measured:many", "`many` is not a batch"),
        ("measured:0", "`0` is not a batch"),
        ("pynk", "unknown device `pynk`"),
    ],
)
def test_a_spec_that_cannot_be(spec: str, message: str) -> None:
    with pytest.raises(EvonasError, match=message):
        load_latency(spec)
