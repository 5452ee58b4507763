"""A deep network's trade-off in closed form: 20 layers x data and weight width, to see how samplers scale.

Quantization noise falls by 4 with every bit (Widrow and Kollar 2008, "Quantization Noise"), so gene g at width w
distorts the output by s_g 4^(2 - w), with sensitivities s_g drawn log-normally, as published per-layer measurements
are spread. Distortions add up, and some pairs of genes (data and weight of a layer, weights of neighbouring layers)
add a geometric mean of theirs on top. The error goes from that of the float network to that of guessing,
`low + (high - low) (1 - exp(-distortion))`; what is searched is its logarithm, observed with noise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evonas.errors import InvalidArgument
from evonas.formats import Fixed
from evonas.objective import Objective
from evonas.problem.base import Problem, Sensitivities
from evonas.space import FloatArray, Gene, IntArray, SearchSpace

__all__ = ["Synthetic", "synthetic"]

WIDTHS = (2, 3, 4, 5, 6, 8)
FLOAT_ERROR, CHANCE_ERROR = 0.05, 0.9
SPREAD = 1.2  # standard deviation of the log sensitivities
COUPLING = 0.5  # largest weight of a pair's geometric mean
PASS = 128 / 10_000  # cost of one sensitivity in evaluations: a calibration batch against a validation set


class Synthetic(Problem):
    """Fixed-point widths of a network that exists only as its sensitivities.

    Args:
        layers: with two genes each.
        seed: of the sensitivities.
        noise: standard deviation of log10 error; a genome's is drawn once and stays.

    Raises:
        InvalidArgument: no layers, or negative noise.
    """

    def __init__(self, *, layers: int = 20, seed: int = 0, noise: float = 0.01) -> None:
        if layers < 1:
            raise InvalidArgument(f"`layers` must be at least 1, got {layers}")
        if not noise >= 0.0:
            raise InvalidArgument(f"`noise` must be 0 or more, got {noise}")
        self.name = f"synthetic-{2 * layers}"
        self.options: Mapping[str, Any] = {"layers": layers, "seed": seed, "noise": noise}
        self.noise = noise
        self.seed = seed
        formats = tuple(Fixed(width) for width in WIDTHS)
        names = [f"layer{i}" for i in range(layers)]
        self.space = SearchSpace(
            [Gene(f"{name}.{slot}", formats, group=name) for name in names for slot in ("data_in", "weight")]
        )
        self.objectives = (
            Objective("log_error", "log10", note="log10 of the share of wrong answers, with noise"),
            Objective("size", "bit", exact=True, note="weights at their widths"),
            Objective("bops", "BOP", exact=True, note="MACs x data width x weight width"),
        )
        self.default_objectives = ("log_error", "size", "bops")
        rng = np.random.default_rng(seed)
        depth = np.arange(layers) / max(1, layers - 1)
        self.weights = np.round(1_000 * 64**depth * rng.uniform(0.5, 2.0, layers))  # grow with depth, as in a CNN
        self.macs = np.round(4e6 * 0.5**depth * rng.uniform(0.5, 2.0, layers))
        raw = rng.lognormal(0.0, SPREAD, 2 * layers)
        self.sensitivity = 3.0 * raw / raw.sum()  # all genes at the lowest width: an error of guessing
        data, weight = np.arange(0, 2 * layers, 2), np.arange(1, 2 * layers, 2)
        pairs = [np.stack([data, weight]), np.stack([weight[:-1], weight[1:]])]
        self.pairs = np.concatenate(pairs, axis=1)
        self.coupling = rng.uniform(0.0, COUPLING, self.pairs.shape[1])
        self._measured_share = rng.lognormal(0.0, 0.1, (2 * layers, len(WIDTHS)))  # noise of the sensitivities

    def exact_values(self, genomes: IntArray) -> FloatArray:
        """Size and BOPs of genomes (n, n_genes), shape (n, 2)."""
        widths = np.array(WIDTHS)[genomes]
        data, weight = widths[:, 0::2], widths[:, 1::2]
        return np.stack([weight @ self.weights, (data * weight) @ self.macs], axis=1)

    def distortions(self, genomes: IntArray) -> FloatArray:
        """Each gene's share of the distortion, shape (n, n_genes)."""
        shares: FloatArray = self.sensitivity * 4.0 ** (2 - np.array(WIDTHS)[genomes])
        return shares

    def log_error(self, genomes: IntArray) -> FloatArray:
        """log10 error without noise, shape (n,), of genomes (n, n_genes)."""
        shares = self.distortions(genomes)
        first, second = self.pairs
        total = shares.sum(axis=1) + np.sqrt(shares[:, first] * shares[:, second]) @ self.coupling
        error: FloatArray = np.log10(FLOAT_ERROR + (CHANCE_ERROR - FLOAT_ERROR) * -np.expm1(-total))
        return error

    def evaluate(self, genomes: IntArray) -> Sequence[Mapping[str, float]]:
        """The noisy log10 error of genomes (n, n_genes); a genome's noise follows from its bytes and the seed."""
        values = self.log_error(genomes)
        return [
            {"log_error": float(value + self.noise * self._draw(genome))}
            for value, genome in zip(values, genomes, strict=True)
        ]

    def _draw(self, genome: IntArray) -> float:
        digest = hashlib.sha256(genome.astype("<i8").tobytes() + str(self.seed).encode()).digest()
        return float(np.random.default_rng(int.from_bytes(digest[:8], "little")).standard_normal())

    def true_values(self, genomes: IntArray, objectives: Sequence[Objective]) -> FloatArray:
        """What genomes (n, n_genes) are scored by: without noise, shape (n, len(objectives))."""
        columns = np.column_stack([self.log_error(genomes), self.exact_values(genomes)])
        names = [objective.name for objective in self.objectives]
        return columns[:, [names.index(objective.name) for objective in objectives]]

    def sensitivities(self) -> Sensitivities:
        """Each gene's own distortion, as a calibration batch would show it: 10 % off."""
        levels = np.arange(len(WIDTHS))
        genomes = np.repeat(levels[:, None], len(self.space), axis=1)
        values = self.distortions(genomes).T * self._measured_share
        return Sensitivities(values, len(self.space) * (len(WIDTHS) - 1) * PASS)


def synthetic(layers: int = 20, seed: int = 0, noise: float = 0.01) -> Synthetic:
    """40 genes of six widths: 10^31 genomes."""
    return Synthetic(layers=layers, seed=seed, noise=noise)
