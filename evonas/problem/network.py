"""Problems about a classifier: formats and channels of its layers against accuracy and cost."""

from __future__ import annotations

import copy
import itertools
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from evonas import costs
from evonas.chains import Chain
from evonas.deploy import int8_module, int8_throughout, onnx_call, require_onnxruntime
from evonas.engine import MEMORY, Engine, Labelled, race, scores
from evonas.errors import unknown_name
from evonas.formats import Format
from evonas.graph.fold import fold_batchnorms
from evonas.graph.trace import as_module, retrace
from evonas.objective import Objective
from evonas.plan import Plans, PlanSpace
from evonas.problem.base import Estimate, Problem, Sensitivities
from evonas.problem.data import Split
from evonas.problem.genes import Rule, with_rules
from evonas.quantize import METHODS, PostTraining, single_thread
from evonas.racing import Raced, looks
from evonas.space import FloatArray, IntArray
from evonas.timing import interleaved, timed_module
from evonas.training import WeightStore

__all__ = ["NetworkProblem", "Split"]

CHUNK = 8_192  # genomes whose costs are computed at once, which bounds memory
_CALIBRATION = 256  # training samples from which formats are calibrated
_SPEC_SHOWN = 24  # characters of a spec in a table
_ROUNDS = 30  # of a latency measurement
_SENSITIVITY_SAMPLES = 64  # training samples on which sensitivities are measured
_KEPT_NETWORKS = 64  # channel configurations whose trained networks stay in memory

MEASURED = (
    Objective("accuracy", "fraction", maximise=True, bounds=(0.0, 1.0), note="share of correct answers"),
    Objective("loss", "nats", note="mean cross entropy"),
)


class NetworkProblem(Problem):
    """A classifier whose formats and channels are searched; quantization is post-training.

    Subclasses say what the data is (`splits`) and how a network of given channel counts is made (`trained`).

    Args:
        plan_space: genes and the network they drive.
        latency: where latency comes from: `roofline:<device>`, `table:<file>`, `measured`, or a device's name.

    Attributes:
        calibration: how formats are calibrated.
        memory: bytes of activations that are held while genomes are evaluated together, whatever their number.
    """

    classes: int
    together = True
    races = True
    memory = MEMORY
    calibration = "mse"

    def __init__(self, plan_space: PlanSpace, *, latency: str) -> None:
        self.plan_space = plan_space
        self.space = plan_space.space
        self.latency = costs.load_latency(latency)
        if isinstance(self.latency, costs.Measured) and self.latency.runtime == "onnxruntime":
            require_onnxruntime()
        self.objectives = (*MEASURED, *costs.objectives(self.latency))
        self.default_objectives = ("accuracy", "latency", "size", "flops")
        self.weights = WeightStore()
        self._networks: OrderedDict[tuple[tuple[str, int], ...], PostTraining] = OrderedDict()
        self.exact_values(self.space.corners())  # a source that does not cover the widest plan is refused here

    def with_rules(self, rules: Sequence[Rule], *, channels: bool = True) -> Self:
        """The same problem with the genes of formats that `rules` say, and its genes of channels unless told not to.

        Raises:
            EvonasError: a rule that does not fit the network.
        """
        options = {"genes": [rule.table() for rule in rules], "channels": channels}
        return self._changed(with_rules(self.plan_space, rules, channels=channels), options)

    def with_quantization(self, *, calibration: str | None = None, fold: bool = False) -> Self:
        """The same problem, quantized otherwise.

        Args:
            calibration: how formats are calibrated, as in `PostTraining`: `max`, `percentile`, `mse`, `kl`, or `auto`,
                which takes for each tensor what changes its layer's output least; as before when None.
            fold: whether batch norms right after a layer are folded into it before it is quantized.

        Raises:
            UnknownName: no such method.
            InvalidArgument: no batch norm can be folded.
        """
        plan_space, options = self.plan_space, dict[str, Any]()
        if calibration is not None:
            if calibration not in METHODS:
                raise unknown_name("calibration method", calibration, METHODS)
            options["calibration"] = calibration
        if fold:
            plan_space = plan_space.over(plan_space.network.folded())
            options["fold"] = True
        changed = self._changed(plan_space, options)
        changed.calibration = calibration or self.calibration
        return changed

    def _changed(self, plan_space: PlanSpace, options: Mapping[str, Any]) -> Self:
        """A copy with another plan space, that has run nothing yet."""
        changed = copy.copy(self)
        changed.plan_space, changed.space = plan_space, plan_space.space
        changed.options = {**self.options, **options}
        changed._networks = OrderedDict()
        changed.exact_values(changed.space.corners())
        return changed

    @abstractmethod
    def splits(self) -> tuple[Split, Split, Split]:
        """Train, validation and test; the search sees the first two."""

    @cached_property
    def train_split(self) -> Split:
        """What networks are trained on."""
        return self.splits()[0]

    @cached_property
    def validation(self) -> Split:
        """What candidates are compared on."""
        return self.splits()[1]

    @cached_property
    def test_split(self) -> Split:
        """What only the final front is scored on."""
        return self.splits()[2]

    @property
    def chains(self) -> tuple[Chain, ...]:
        """The chains of the network, driven by a gene or not."""
        return self.plan_space.network.chains

    @abstractmethod
    def trained(self, channels: Mapping[str, int]) -> nn.Module:
        """The trained float network with these counts per chain, in evaluation mode; the same every time."""

    def prepare(self, genomes: IntArray, told: Callable[[int, int], None] | None = None) -> None:
        """Train the networks that evaluating genomes (n, n_genes) will need, together where that can be."""
        counts = self.plan_space.channels(genomes)
        found = np.unique(np.array([*counts.values()], dtype=np.int64).reshape(-1, len(genomes)), axis=1)
        self.train_all([dict(zip(counts, column, strict=True)) for column in found.T.tolist()], told)

    def train_all(
        self, configurations: Sequence[Mapping[str, int]], told: Callable[[int, int], None] | None = None
    ) -> None:
        """Have `trained` ready for these counts per chain, by training what is missing; nothing by default.

        What becomes of a network must not depend on which others are trained with it.
        """
        return

    def widest(self) -> dict[str, int]:
        """Chain -> the most channels that the space has for it."""
        genomes = np.minimum(np.arange(int(self.space.n_choices.max()))[:, None], self.space.n_choices - 1)
        return {name: int(counts.max()) for name, counts in self.plan_space.channels(genomes).items()}

    def keep_in(self, directory: Path) -> None:
        """Keep trained weights in `directory`/weights."""
        self.weights.keep_in(directory / "weights")

    def exact_values(self, genomes: IntArray) -> FloatArray:
        """All costs of genomes (n, n_genes), shape (n, n_exact); no module is built."""
        names = [objective.name for objective in self.exact]
        result = np.empty((len(genomes), len(names)))
        for start in range(0, len(genomes), CHUNK):
            rows = slice(start, start + CHUNK)
            plans = self.plan_space.plans(genomes[rows])
            for column, name in enumerate(names):
                result[rows, column] = costs.cost(name, plans, self.latency)
        return result

    def network(self, genome: IntArray) -> PostTraining:
        """The trained network with the channels of `genome` (n_genes,), ready to run under any formats."""
        key = self.plan_space.plan(genome).channels
        if key not in self._networks:
            model, samples = self.trained(dict(key)), self.train_split.inputs[:_CALIBRATION]
            network = self.plan_space.network
            self._networks[key] = PostTraining(model, samples, network, method=self.calibration)
            if len(self._networks) > _KEPT_NETWORKS:
                self._networks.popitem(last=False)
        self._networks.move_to_end(key)
        return self._networks[key]

    def evaluate(self, genomes: IntArray) -> list[dict[str, float]]:
        """Accuracy and loss on the validation split, for genomes (n, n_genes); as torchmetrics defines the first.

        Those of one network go through its graph together, so that what they share is computed once.

        Raises:
            FloatingPointError: an output is not finite.
        """
        found = [dict[str, float]() for _ in genomes]
        with single_thread():
            for rows in self._networks_of(genomes):
                engine = Engine(self.network(genomes[rows[0]]), self.plan_space, memory=self.memory)
                scored = scores(engine, genomes[rows], self._labelled)
                if not scored.finite.all():
                    raise FloatingPointError("the network's output is not finite")
                for row, accuracy, loss in zip(rows, scored.accuracy.tolist(), scored.loss.tolist(), strict=True):
                    found[row] = {"accuracy": accuracy, "loss": loss} | self._timing(genomes[row])
        return found

    def race(self, genomes: IntArray, least: FloatArray) -> list[Raced]:
        """As `Problem.race`: the validation samples in one random order, the same for every genome.

        Raises:
            FloatingPointError: an output is not finite.
        """
        found = dict[int, Raced]()
        with single_thread():
            for rows in self._networks_of(genomes):
                engine = Engine(self.network(genomes[rows[0]]), self.plan_space, memory=self.memory)
                found |= zip(rows.tolist(), race(engine, genomes[rows], self._heats, least[rows]), strict=True)
            for row, raced in found.items():
                if raced.scores is not None:
                    found[row] = replace(raced, scores={**raced.scores, **self._timing(genomes[row])})
        return [found[row] for row in range(len(genomes))]

    @cached_property
    def _heats(self) -> list[Labelled]:
        """The validation samples, divided at the looks of a race."""
        total = len(self.validation)
        order = torch.randperm(total, generator=torch.Generator().manual_seed(0)).to(self.validation.targets.device)
        ends = [0, *looks(total), total]
        parts = [order[start:stop] for start, stop in itertools.pairwise(ends)]
        return [Labelled(self.validation.inputs[part], self.validation.targets[part]) for part in parts]

    def _networks_of(self, genomes: IntArray) -> list[IntArray]:
        """The rows of genomes (n, n_genes) that have the same network, one array a network."""
        counts = np.array([*self.plan_space.channels(genomes).values()], dtype=np.int64).reshape(-1, len(genomes))
        which = np.unique(counts, axis=1, return_inverse=True)[1].reshape(-1)
        return [np.flatnonzero(which == network) for network in range(int(which.max(initial=-1)) + 1)]

    @cached_property
    def _labelled(self) -> Labelled:
        return Labelled(self.validation.inputs, self.validation.targets)

    def _timing(self, genome: IntArray) -> dict[str, float]:
        """Measured latency and its quartiles in µs a sample; nothing where latency is modelled.

        What is timed is the deployable form: the float network with the genome's channels, or by onnxruntime its int8
        form where the plan is int8 throughout. It takes turns with the
        network of the original channels, so that a slow spell of the machine does not pass for a slow candidate.
        """
        if not isinstance(self.latency, costs.Measured):
            return {}
        batch = self.latency.batch
        samples = self.validation.inputs[torch.arange(batch) % len(self.validation)]
        chosen = self.deployable(dict(self.plan_space.plan(genome).channels))
        original = self.deployable({chain.name: chain.channels for chain in self.chains})
        bits: dict[str, float] = {}
        if self.latency.runtime == "onnxruntime":
            samples, network, plan = samples.cpu(), self.network(genome), self.plan_space.plan(genome)
            int8 = int8_throughout(network.concrete(plan))
            chosen = int8_module(network, plan, self.validation.inputs[:2]) if int8 else chosen
            calls = [onnx_call(module, samples) for module in (chosen, original)]
            bits = {"latency_bits": 8.0 if int8 else 32.0}
        else:
            calls = [timed_module(module, samples) for module in (chosen, original)]
        timing = interleaved(calls, rounds=_ROUNDS, rng=np.random.default_rng(0), device=samples.device)[0]
        names = {"latency_q1": timing.q1, "latency": timing.median, "latency_q3": timing.q3}
        return {name: 1e6 * seconds / batch for name, seconds in names.items()} | bits

    def deployable(self, channels: Mapping[str, int]) -> nn.Module:
        """The float network with these counts per chain, batch norms folded where the problem folds them."""
        model, folds = self.trained(channels), self.plan_space.network.folds
        if not folds:
            return model
        graph, constants = retrace(model, (self.validation.inputs[:2],))
        return fold_batchnorms(as_module(model, graph, constants).eval(), folds)

    def logits(self, genome: IntArray, inputs: Tensor) -> Tensor:
        """What the network of `genome` (n_genes,) returns for `inputs` (n, ...): logits (n, classes).

        Raises:
            FloatingPointError: an output is not finite.
        """
        network = self.network(genome)
        with single_thread():
            logits = network.forward(self.plan_space.plan(genome), inputs)
        if not bool(torch.isfinite(logits).all()):
            raise FloatingPointError("the network's output is not finite")
        return logits

    def sensitivities(self) -> Sensitivities:
        """KL divergence of the output from the float network's, one format at a time below its highest choice.

        In nats, the mean over the first training samples (cf. Cai et al. 2020, arXiv:2001.00281,
        section 3.2). Channels keep their original counts, and genes that drive them have none.
        """
        base = self.space.n_choices - 1
        formats = [i for i, gene in enumerate(self.space.genes) if isinstance(gene.choices[0], Format)]
        for i, gene in enumerate(self.space.genes):
            if i not in formats:
                base[i] = min(range(len(gene.choices)), key=lambda c, g=gene: abs(float(g.choices[c]) - 1.0))  # type: ignore[misc]
        tried = np.array([[i, c] for i in formats for c in range(self.space.n_choices[i] - 1)]).reshape(-1, 2)
        genomes = np.repeat(base[None], len(tried) + 1, axis=0)
        genomes[np.arange(len(tried)), tried[:, 0]] = tried[:, 1]
        divergence = self._divergence(genomes)
        values = np.full((len(self.space), int(self.space.n_choices.max())), np.nan)
        values[formats, self.space.n_choices[formats] - 1] = divergence[-1]
        values[tried[:, 0], tried[:, 1]] = divergence[:-1]
        samples = min(_SENSITIVITY_SAMPLES, len(self.train_split))
        return Sensitivities(values, (len(genomes) + 1) * samples / len(self.validation))

    def _divergence(self, genomes: IntArray) -> FloatArray:
        """Mean KL divergence from the float network, shape (n,), for genomes (n, n_genes) of one network."""
        inputs, network = self.train_split.inputs[:_SENSITIVITY_SAMPLES], self.network(genomes[0])
        with torch.no_grad(), single_thread():
            reference = network.graph(inputs).log_softmax(1)
            logits = Engine(network, self.plan_space, memory=self.memory).outputs(genomes, inputs)
            if not bool(torch.isfinite(logits).all()):
                raise FloatingPointError("the network's output is not finite")
            found = [
                nn.functional.kl_div(one.log_softmax(1), reference, log_target=True, reduction="batchmean")
                for one in logits
            ]
        return np.array([float(value) for value in found])

    def test(self, genome: IntArray) -> dict[str, Estimate]:
        """Accuracy on the test split, with its Wilson interval."""
        logits = self.logits(genome, self.test_split.inputs)
        return {"accuracy": self.share(logits.argmax(1) == self.test_split.targets)}

    @staticmethod
    def share(correct: Tensor) -> Estimate:
        """The share of True in `correct`, shape (n,), with its 95 % Wilson interval (Wilson 1927)."""
        from scipy.stats import binomtest

        interval = binomtest(int(correct.sum()), len(correct)).proportion_ci(0.95, method="wilson")
        return Estimate(float(correct.float().mean()), float(interval.low), float(interval.high))

    def model(self, genome: IntArray) -> nn.Module:
        """A stand-alone module with the plan of `genome` (n_genes,) applied: same outputs, bit for bit."""
        return self.network(genome).module(self.plan_space.plan(genome))

    def describe(self, genome: IntArray) -> str:
        """`fc1 w4.2 a8.4 · fc2 w3.1 a4.2 · fc3 w4.3 a4.1 | x0.5 x1`: widths and fraction widths, multipliers."""
        network, plan = self.network(genome), self.plan_space.plan(genome)
        return network.concrete(plan).short

    def details(self, genome: IntArray) -> list[dict[str, Any]]:
        """One row a layer: concrete formats, channels, costs, and what bounds its latency."""
        plans = self.plan_space.plans(genome[None])
        plan = self.network(genome).concrete(self.plan_space.plan(genome))
        weights = plans.weights(plans.network.quantizable)[0]
        slots = [slot for slot in plans.network.slots if any(slot in layer.formats for layer in plan.layers)]
        latencies = self.latency_rows(plans)
        return [
            {
                "layer": layer.layer.name,
                "inputs": layer.inputs,
                "outputs": layer.outputs,
                **{slot: _shown(layer.formats[slot]) if slot in layer.formats else "-" for slot in slots},
                "weights": int(weights[i]) if layer.layer.stores else 0,
                **latencies[i],
            }
            for i, layer in enumerate(plan.layers)
        ]

    def remarks(self, genome: IntArray) -> list[str]:
        """Where latency that is no roofline comes from: what binds a layer is then not known."""
        binds = "whether compute, memory or overhead binds a layer is known of rooflines only (roofline:DEVICE)"
        if isinstance(self.latency, costs.Table):
            plans = self.plan_space.plans(genome[None])
            rows = [row["latency"] for row in self.latency_rows(plans) if row]
            whole = float(self.latency.seconds(plans)[0]) * 1e6
            rest = f"ReLUs, batch norms and what a network takes beyond its layers {whole - sum(rows):.4g} µs"
            return [f"times are those of {self.latency.origin}: layers {sum(rows):.4g} µs, {rest}; {binds}"]
        if isinstance(self.latency, costs.Measured):
            timed = "latency is measured of the whole network, which has no times of its layers"
            return [f"{timed}: `evonas profile` and --latency table:FILE give them; {binds}"]
        return []

    def latency_rows(self, plans: Plans) -> list[dict[str, Any]]:
        """What is known of each quantizable layer's latency (µs) in the one genome of `plans`; empty when measured."""
        layers = plans.network.quantizable
        if isinstance(self.latency, costs.Table):
            found = {name: float(seconds[0]) for name, seconds in self.latency.layer_seconds(plans).items()}
            whole = float(self.latency.seconds(plans)[0])
            return [
                {"latency": found[name] * 1e6, "share": f"{found[name] / whole:.1%}"} if name in found else {}
                for name in (layer.name for layer in layers)
            ]
        if isinstance(self.latency, costs.Device):
            return costs.latency_rows(plans, self.latency)
        return [{} for _ in layers]


def _shown(fmt: Format) -> str:
    """A spec for a table, a long list of scales cut."""
    return fmt.spec if len(fmt.spec) <= _SPEC_SHOWN else f"{fmt.spec.partition('@')[0]}@..."
