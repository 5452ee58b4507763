"""Accuracy and loss of many genomes, against torchmetrics and torch."""

from __future__ import annotations

import numpy as np
import torch
from engine.test_engine import FIXED, quantized
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy
from torchmetrics.functional.classification import multiclass_accuracy

from evonas.engine import Engine, Labelled, scores
from evonas.engine.scores import _lost, _right

NETWORK, SPACE, INPUTS = quantized("twice", FIXED, 650)
TARGETS = torch.from_numpy(np.random.default_rng(0).integers(3, size=650))
GENOMES = SPACE.space.sample(60, np.random.default_rng(1))


def test_accuracy_is_that_of_torchmetrics_and_loss_that_of_torch() -> None:
    found = scores(Engine(NETWORK, SPACE), GENOMES, Labelled(INPUTS, TARGETS))
    for genome, accuracy, loss in zip(GENOMES, found.accuracy, found.loss, strict=True):
        logits = NETWORK.forward(SPACE.plan(genome), INPUTS)
        expected = multiclass_accuracy(logits, TARGETS, num_classes=3, average="micro")
        assert np.float32(accuracy) == expected.item()
        assert abs(loss - float(cross_entropy(logits.double(), TARGETS))) < 1e-6 * max(1.0, loss)
    assert found.finite.all()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**16), count=st.integers(1, 60), memory=st.sampled_from([1, 2**16, 2**28]))
def test_scores_do_not_depend_on_company(seed: int, count: int, memory: int) -> None:
    data = Labelled(INPUTS, TARGETS)
    rows = np.random.default_rng(seed).permutation(len(GENOMES))[:count]
    found = scores(Engine(NETWORK, SPACE, memory=memory), GENOMES[rows], data)
    every = scores(Engine(NETWORK, SPACE), GENOMES, data)
    assert found.accuracy.tobytes() == every.accuracy[rows].tobytes()
    assert found.loss.tobytes() == every.loss[rows].tobytes()


def test_without_loss() -> None:
    found = scores(Engine(NETWORK, SPACE), GENOMES, Labelled(INPUTS, TARGETS), loss=False)
    assert np.isnan(found.loss).all()
    assert (
        found.accuracy.tobytes()
        == scores(Engine(NETWORK, SPACE), GENOMES, Labelled(INPUTS, TARGETS)).accuracy.tobytes()
    )


@given(data=st.data())
def test_of_equal_logits_the_first_counts(data: st.DataObject) -> None:
    classes, samples = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 40))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**16)))
    logits = torch.from_numpy(rng.integers(-2, 3, size=(4, classes, samples)).astype(np.float32))
    targets = torch.from_numpy(rng.integers(classes, size=samples))
    labelled = Labelled(torch.zeros(samples, 1), targets)
    order = targets.argsort(stable=True)
    sorted_logits = logits[:, :, order]
    runs = labelled.runs(slice(0, samples))
    expected = (logits.argmax(1) == targets).sum(1)
    assert torch.equal(_right(sorted_logits, runs), expected)
    losses = [float(cross_entropy(one.t().double(), targets, reduction="sum")) for one in logits]
    assert np.allclose(_lost(sorted_logits, runs).numpy() / 2.0**30, losses, atol=1e-4)


def test_logits_that_are_not_finite_are_said() -> None:
    inputs = INPUTS.clone()
    inputs[640] = torch.nan
    found = scores(Engine(NETWORK, SPACE), GENOMES, Labelled(inputs, TARGETS))
    assert not found.finite.any()


def test_samples_are_filled_up_with_repeats_that_do_not_count() -> None:
    for samples in (1, 31, 32, 33, 650):
        data = Labelled(INPUTS[:samples], TARGETS[:samples])
        assert len(data.inputs) % 32 == 0
        assert data.count == samples
        counted = sum(
            stop - first
            for start in range(0, len(data.inputs), 32)
            for _, first, stop in data.runs(slice(start, start + 32))
        )
        assert counted == samples
        assert isinstance(data.inputs, Tensor)
