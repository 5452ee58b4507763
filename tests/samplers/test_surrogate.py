"""Our surrogate-assisted sampler."""

from __future__ import annotations

import numpy as np
import pytest
from contracts.samplers import Make, SamplerContract
from toys import Toy, genomes_of, run, task_of

from evonas.evaluate import evaluate
from evonas.problem import Sensitivities
from evonas.samplers.random import RandomSampler
from evonas.samplers.surrogate import Settings, SurrogateSampler


class TestSurrogate(SamplerContract):
    @pytest.fixture
    def make(self) -> Make:
        return SurrogateSampler


@pytest.mark.slow
class TestSurrogateInBatches(SamplerContract):
    @pytest.fixture
    def make(self) -> Make:
        return lambda task, seed: SurrogateSampler(task, seed, settings=Settings(batch=4, model="trees"))
