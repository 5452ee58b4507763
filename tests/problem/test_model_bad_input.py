"""What does not fit is one line that says what, and what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from evonas.errors import EvonasError
from evonas.problem.joint import parse_pairs
from evonas.problem.model import ModelProblem
from problem.networks import Small, blobs, splits


def make(**changes: Any) -> ModelProblem:
    return ModelProblem(Small().eval(), **{**splits(), "space": {"widths": (4, 8)}, **changes})


def spoiled(value: float) -> tuple[torch.Tensor, torch.Tensor]:
    inputs, targets = blobs(30, 0)
    inputs[7, 0, 2, 2] = value
    return inputs, targets


def relabelled(label: int) -> tuple[torch.Tensor, torch.Tensor]:
    inputs, targets = blobs(30, 0)
    targets = targets.clone()
    targets[5] = label
    return inputs, targets


EMPTY = (torch.zeros(0, 1, 6, 6), torch.zeros(0, dtype=torch.long))

CASES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "nan": ({"validation": spoiled(float("nan"))}, ["`validation`", "not finite", "sample 7"]),
    "infinite": ({"train": spoiled(float("inf"))}, ["`train`", "not finite"]),
    "label too large": ({"test": relabelled(3)}, ["`test`", "label 3", "sample 5", "0 to 2"]),
    "label negative": ({"train": relabelled(-1)}, ["`train`", "label -1"]),
    "labels are fractions": ({"train": (blobs(9, 0)[0], torch.full((9,), 0.5))}, ["`train`", "whole numbers"]),
    "empty split": ({"validation": EMPTY}, ["`validation` is empty"]),
    "empty iterable": ({"train": []}, ["`train` is empty"]),
    "no pairs": ({"train": [torch.zeros(2, 1, 6, 6)]}, ["`train` must yield pairs"]),
    "no data": ({"train": None}, ["`train` must be an iterable"]),
    "one-hot targets": ({"train": (blobs(9, 0)[0], torch.zeros(9, 3))}, ["`train`", "class indices (n,)"]),
    "another shape": ({"validation": (torch.zeros(4, 1, 5, 5), torch.zeros(4).long())}, ["`validation`", "(1, 5, 5)"]),
    "example shape": (
        {"example_inputs": torch.zeros(2, 3, 6, 6)},
        ["`example_inputs`", "(2, 3, 6, 6)", "(n, 1, 6, 6)"],
    ),
    "example kind": ({"example_inputs": "image"}, ["`example_inputs`", "str"]),
    "multiplier zero": ({"space": {"multipliers": (0, 1)}}, ["multiplier", "positive and finite", "got 0"]),
    "multiplier negative": ({"space": {"multipliers": (-1, 1)}}, ["positive and finite", "got -1"]),
    "multiplier nan": ({"space": {"multipliers": (float("nan"), 1)}}, ["positive and finite", "got nan"]),
    "round_to zero": ({"space": {"round_to": 0}}, ["`round_to`", "got 0"]),
    "unknown layer": ({"space": {"layers": ["convv"]}}, ["unknown layer `convv`", "conv, "]),
    "unknown chain": ({"space": {"chains": ["chain7"]}}, ["unknown chain `chain7`", "chain0"]),
    "unknown option": ({"space": {"width": (4,)}}, ["unknown option of `space` `width`", "widths"]),
    "nothing to search": ({"space": {"widths": (), "multipliers": ()}}, ["nothing to search"]),
    "unknown weights": ({"weights": "copy"}, ["`copy`", "inherit"]),
    "inherit trains nothing": ({"epochs": 3}, ["weights=inherit", "epochs=3"]),
    "no epochs": ({"weights": "scratch"}, ["`epochs` is 0"]),
    "no seeds": ({"weights": "scratch", "epochs": 1, "seeds": 0}, ["`seeds`", "got 0"]),
    "no such device": ({"device": "abacus"}, ["device `abacus`", "cpu"]),
    "a slice larger than the whole": (
        {"weights": "supernet", "epochs": 1, "space": {"multipliers": (1, 2)}},
        ["16 channels", "`chain0`", "at most 1"],
    ),
    "disagreeing pairs": (
        {"space": {"pairs": [(1, 2), (3, 2), (2, 1)]}},
        ["`stem` multiplies its outputs by 2", "`conv` multiplies its inputs by 3", "chain0"],
    ),
    "pairs that are too few": ({"space": {"pairs": [(1, 2)]}}, ["1 entries", "3 layers", "stem, conv, head"]),
    "no pair": ({"space": {"pairs": [(1, 2), 2, (2, 1)]}}, ["`conv` must be a pair", "got 2"]),
    "frozen side": ({"space": {"pairs": [(2, 1), (1, 1), (1, 1)]}}, ["`stem` multiplies its inputs by 2", "no chain"]),
}


@pytest.mark.parametrize("case", CASES)
def test_one_line_names_what_is_wrong(case: str) -> None:
    changes, words = CASES[case]
    with pytest.raises(EvonasError) as raised:
        make(**changes)
    message = str(raised.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_a_model_in_training_mode() -> None:
    with pytest.raises(EvonasError, match="training mode"):
        ModelProblem(Small().train(), **splits())


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (
            lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 3), torch.nn.Unflatten(1, (3, 1))),
            "logits",
        ),
        (lambda: torch.nn.Linear(5, 3), "does not accept"),
    ],
)
def test_a_model_of_another_kind(build: Callable[[], torch.nn.Module], words: str) -> None:
    with pytest.raises(EvonasError, match=words):
        ModelProblem(build().eval(), **splits())


@pytest.mark.parametrize("text", ["[(1, 2", "3", "[2, (1, 2)]", "__import__('os')"])
def test_pairs_that_do_not_parse(text: str) -> None:
    with pytest.raises(EvonasError):
        parse_pairs(text)


def test_pairs_that_agree_fix_the_chains() -> None:
    problem = make(space={"widths": (4, 8), "pairs": [(1, 2), (2, 2), (2, 1)]})
    assert dict(problem.plan_space.plan(problem.space.corners()[0]).channels) == {"chain0": 16}
