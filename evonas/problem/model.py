"""Search any module: its layers' formats and its chains' channels, jointly, on any data."""

from __future__ import annotations

import copy
import hashlib
import json
import statistics
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, Literal, Self, get_args

import numpy as np
import torch
from torch import Tensor, fx, nn

from evonas import costs
from evonas.chains import Chain
from evonas.costs import DEFAULT_LATENCY
from evonas.describe import describe
from evonas.errors import InvalidArgument, unknown_name
from evonas.graph import Frozen, find_chains, recalibrate_batchnorm, resize
from evonas.graph.trace import as_module, retrace
from evonas.objective import Objective
from evonas.plan import PlanSpace
from evonas.problem.base import Estimate
from evonas.problem.data import Split, check_labels, read_splits
from evonas.problem.joint import JointSpace, joint_space, plan_space
from evonas.problem.network import NetworkProblem
from evonas.quantize import METHODS, single_thread
from evonas.space import IntArray
from evonas.supernet import Supernet, evenly
from evonas.training import Recipe, Told, train_kept

__all__ = ["ModelProblem", "Weights"]

Weights = Literal["inherit", "finetune", "scratch", "supernet"]
_RECALIBRATION = 512  # training samples from which batch norm statistics are taken
_BATCH = 256
_SLICES = 64  # networks that the steps of a supernet draw from: cutting is not free
_DRAWN = 1000  # networks among which these are chosen

SPREAD = (
    Objective("accuracy_spread", "fraction", note="standard deviation of the accuracy over the training seeds"),
    Objective("loss_spread", "nats", note="standard deviation of the loss over the training seeds"),
)


class ModelProblem(NetworkProblem):
    """A user's classifier: formats of its layers and multipliers of its chains.

    Args:
        model: any module that torch.fx can trace, from one tensor to logits (n, classes), in evaluation mode. It is
            never modified.
        train: pairs (inputs, targets): batches, samples, or two tensors; held in memory. Needed unless `splits` is
            given, and so is `validation`.
        validation: what candidates are compared on.
        test: what only the final front is scored on; the front has no test accuracy when None.
        splits: instead of these three: called for them when they are first needed; give `example_inputs` as well.
        example_inputs: a small batch to trace with; the first two training samples when None.
        space: a `JointSpace`, or its arguments by name.
        weights: how a candidate with other channels gets its weights. `inherit`: those of `model`, the most
            important channels kept or copied, and batch norm statistics taken anew; `finetune`: the same, then
            trained for `epochs`; `scratch`: initialised and trained for `epochs`; `supernet`: `model` is trained once
            for `epochs` from new weights, so that its slices work, and a candidate is one (multipliers of at most 1).
        epochs: of training; 0 with `inherit`.
        seeds: trains that many times, and reports the mean and the spread over them.
        recipe: learning rate, batch and weight decay of training.
        device: where the network runs, `cpu`, or a device of torch such as `cuda` or `cuda:1` that is there.
        latency: where latency comes from, such as `roofline:pynq-z1`, `table:cpu.json` or `measured`.
        name: for the run directory.
        calibration: how formats are calibrated, as in `with_quantization`.
        fold: whether batch norms right after a layer are folded into it before it is quantized.
        chain_names: new names for chains, such as `{"chain0": "hidden"}`.

    Raises:
        EvonasError: one line about what does not fit.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        train: Any = None,
        validation: Any = None,
        test: Any = None,
        splits: Callable[[], tuple[Split, Split, Split]] | None = None,
        example_inputs: Tensor | tuple[Tensor] | None = None,
        space: JointSpace | Mapping[str, Any] | None = None,
        weights: Weights = "inherit",
        epochs: int = 0,
        seeds: int = 1,
        recipe: Recipe | None = None,
        device: str = "cpu",
        latency: str = DEFAULT_LATENCY,
        name: str | None = None,
        calibration: str = "mse",
        fold: bool = False,
        chain_names: Mapping[str, str] | None = None,
    ) -> None:
        _check_training(weights, epochs, seeds)
        self.name = name or type(model).__name__.lower()
        self.options = {}
        self.run_on = _device(device)
        if splits is None:
            eager = read_splits(train, validation, test)
            self._source: Callable[[], tuple[Split, Split, Split]] = lambda: eager
            example_inputs = _example(example_inputs, eager[0])
        elif not isinstance(example_inputs, Tensor):
            raise InvalidArgument("`example_inputs` must be given with `splits`, one tensor of shape (n, ...)")
        else:
            self._source = splits
        example = example_inputs.to(next((p.device for p in model.parameters()), "cpu"))
        self.original, self.how, self.epochs = model, weights, epochs
        self.recipe, self.train_seed = recipe or Recipe(), 0
        self._found = find_chains(model, example)
        self._example = example
        self.classes = _classes(model, example)
        if train is not None:
            self.splits()
        network = describe(self._found, names=chain_names)
        network = network.folded() if fold else network
        if calibration not in METHODS:
            raise unknown_name("calibration method", calibration, METHODS)
        self.calibration = calibration
        self._graph_names = dict(zip((c.name for c in network.chains), self._found, strict=True))
        super().__init__(plan_space(network, joint_space(space)), latency=latency)
        if weights == "supernet":
            _check_slices(self.plan_space.extreme_channels[1], self.chains)
        self._siblings = [self._with_seed(seed) for seed in range(1, seeds)]
        self.races = seeds == 1  # a mean over trainings is no share of samples
        if seeds > 1:
            self.objectives = (*self.objectives[:2], *SPREAD, *self.objectives[2:])

    @cached_property
    def fingerprint(self) -> str:
        """The digest of genes and objectives, and of the given weights where candidates start from them."""
        digest = hashlib.sha256(super().fingerprint.encode())
        if self.how != "scratch":
            for name, value in sorted(self.original.state_dict().items()):
                digest.update(name.encode())
                digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:16]

    @property
    def frozen(self) -> tuple[Frozen, ...]:
        """Sides of layers that keep their channels, and why."""
        return self._found.frozen

    def splits(self) -> tuple[Split, Split, Split]:
        """Train, validation and test, on the device; the last one may be empty."""
        return self._splits

    @cached_property
    def _splits(self) -> tuple[Split, Split, Split]:
        train, validation, test = self._source()
        for name, split in (("train", train), ("validation", validation), ("test", test)):
            check_labels(name, split, self.classes)
        return train.to(self.run_on), validation.to(self.run_on), test.to(self.run_on)

    def trained(self, channels: Mapping[str, int]) -> nn.Module:
        """The network with these counts per chain, its weights found as `weights` says; the same every time."""
        counts = {self._graph_names[name]: count for name, count in channels.items()}
        changed = {name: count for name, count in counts.items() if count != self._found[name].channels}
        if self.how == "supernet":
            return self._recalibrated(self.supernet.network(counts))
        sized = self._untrained(channels)
        if self.how == "inherit":
            return self._recalibrated(sized) if changed else self._traced(sized)
        self._train_mine([channels])
        kept = self.weights.load(self._key(channels))
        assert kept is not None
        sized.load_state_dict(kept)
        return self._traced(sized)

    def train_all(self, configurations: Sequence[Mapping[str, int]], told: Told | None = None) -> None:
        """Train the networks of these configurations that are not kept yet, with every seed."""
        if self.how in ("inherit", "supernet"):
            return
        for problem in (self, *self._siblings):
            problem._train_mine(configurations, told)

    def _train_mine(self, configurations: Sequence[Mapping[str, int]], told: Told | None = None) -> None:
        train_kept(
            self.weights,
            {self._key(channels): partial(self._untrained, channels) for channels in configurations},
            self.train_split.inputs,
            self.train_split.targets,
            widest=lambda: self._untrained(self.widest()),
            epochs=self.epochs,
            seed=self.train_seed,
            recipe=self.recipe,
            told=told,
        )

    def _untrained(self, channels: Mapping[str, int]) -> nn.Module:
        """The network with these counts per chain and the weights that it starts from."""
        counts = {self._graph_names[name]: count for name, count in channels.items()}
        changed = {name: count for name, count in counts.items() if count != self._found[name].channels}
        init = "fresh" if self.how == "scratch" else "inherit"
        return resize(self.original, changed, chains=self._found, init=init, seed=self.train_seed).to(self.run_on)

    @cached_property
    def supernet(self) -> Supernet:
        """The trained supernet, kept once trained."""
        fresh = resize(self.original, {}, chains=self._found, init="fresh", seed=self.train_seed).to(self.run_on)
        found = Supernet(fresh, self._found)
        key = self._key({chain.name: chain.channels for chain in self.chains})
        kept = self.weights.load(key)
        if kept is not None:
            found.model.load_state_dict(kept)
            found.model.eval()
            return found
        data, recipe = self.train_split, self.recipe
        networks = self._slices()
        found.train(
            data.inputs, data.targets, networks=networks, epochs=self.epochs, seed=self.train_seed, recipe=recipe
        )
        self.weights.save(key, found.model.state_dict())
        return found

    def _slices(self) -> list[dict[str, int]]:
        """Networks of the space, the smallest and the largest among them, even in the logarithm of their parameters."""
        drawn = self.space.sample(_DRAWN, np.random.default_rng(self.train_seed))
        genomes = np.concatenate([self.space.corners(), drawn])
        counts = {self._graph_names[name]: values for name, values in self.plan_space.channels(genomes).items()}
        _, first = np.unique(np.stack([*counts.values()]), axis=1, return_index=True)
        sizes = np.log(costs.cost("parameters", self.plan_space.plans(genomes[first]), self.latency))
        rows = first[evenly(sizes, _SLICES)]
        return [{name: int(values[row]) for name, values in counts.items()} for row in rows]

    def _recalibrated(self, model: nn.Module) -> fx.GraphModule:
        """`model` with batch norm statistics of the training data."""
        inputs = self.train_split.inputs[:_RECALIBRATION]
        with single_thread():
            recalibrate_batchnorm(model, [inputs[i : i + _BATCH] for i in range(0, len(inputs), _BATCH)])
        return self._traced(model)

    def evaluate(self, genomes: IntArray) -> list[dict[str, float]]:
        """Accuracy and loss on the validation split, for genomes (n, n_genes): means and spreads over the seeds."""
        first = super().evaluate(genomes)
        if not self._siblings:
            return first
        rows = zip(first, *(sibling.evaluate(genomes) for sibling in self._siblings), strict=True)
        return [_over_seeds(list(scores)) for scores in rows]

    def test(self, genome: IntArray) -> dict[str, Estimate]:
        """Accuracy on the test split, the mean over the seeds; the Wilson interval is that of one training."""
        if not len(self._splits[2]):
            return {}
        mine = super().test(genome)
        if not self._siblings:
            return mine
        shares = [mine["accuracy"].value, *(s.test(genome)["accuracy"].value for s in self._siblings)]
        total = len(self.test_split)
        correct = torch.arange(total) < round(statistics.fmean(shares) * total)
        return {"accuracy": self.share(correct)}

    def summary(self) -> list[str]:
        """The data, how weights come about, and the float accuracy of the original channels."""
        sizes = [len(split) for split in self._splits]
        split, label = (self.test_split, "test") if sizes[2] else (self.validation, "validation")
        model = self.trained(
            {name: chain.channels for name, chain in zip(self._graph_names, self._found.values(), strict=True)}
        )
        with torch.no_grad(), single_thread():
            share = self.share(model(split.inputs).argmax(1) == split.targets)
        times = f", {len(self._siblings) + 1} seeds" if self._siblings else ""
        return [
            f"data: {sizes[0]} train, {sizes[1]} validation, {sizes[2]} test samples; {self.classes} classes",
            f"weights: {self.how}{f', {self.epochs} epochs' if self.epochs else ''}{times}",
            f"float32 with the original channels: accuracy on {label} "
            f"{share.value:.4f} [{share.low:.4f}, {share.high:.4f}]",
        ]

    def _changed(self, plan_space: PlanSpace, options: Mapping[str, Any]) -> Self:
        changed = super()._changed(plan_space, options)
        changed._siblings = [sibling._changed(plan_space, options) for sibling in self._siblings]
        return changed

    def with_quantization(self, *, calibration: str | None = None, fold: bool = False) -> Self:
        """As `NetworkProblem.with_quantization`, for every training seed."""
        changed = super().with_quantization(calibration=calibration, fold=fold)
        for sibling in changed._siblings:
            sibling.calibration = changed.calibration
        return changed

    def _with_seed(self, seed: int) -> Self:
        """This problem with another training seed; data and weight store are shared."""
        sibling = copy.copy(self)
        sibling.train_seed = seed
        sibling._siblings = []
        sibling._networks = OrderedDict()
        sibling.__dict__.pop("supernet", None)
        return sibling

    def _traced(self, model: nn.Module) -> fx.GraphModule:
        """`model` as a graph of its own modules: what fx could trace once, it will trace again."""
        graph, constants = retrace(model.eval(), (self._example.to(self.run_on),))
        return as_module(model, graph, constants, type(model).__name__).eval()

    def _key(self, channels: Mapping[str, int]) -> str:
        what = [
            sorted(channels.items()),
            sorted(self.widest().items()),  # the size of the padding, see `train_together`
            self.how,
            self.epochs,
            self.train_seed,
            repr(self.recipe),
            len(self._splits[0]),
        ]
        digest = hashlib.sha256(json.dumps(what).encode())
        if self.how == "finetune":
            for value in self.original.state_dict().values():
                digest.update(value.detach().cpu().contiguous().view(-1).numpy().tobytes())
        safe = "".join(c if c.isalnum() or c in "-_" else "-" for c in self.name)
        return f"{safe}-s{self.train_seed}-{digest.hexdigest()[:20]}"


def _check_training(weights: str, epochs: int, seeds: int) -> None:
    if weights not in get_args(Weights):
        raise unknown_name("way to get weights", str(weights), get_args(Weights))
    for name, value, least in (("epochs", epochs, 0), ("seeds", seeds, 1)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InvalidArgument(f"`{name}` must be a whole number of at least {least}, got {value!r}")
    if weights == "inherit" and (epochs or seeds > 1):
        raise InvalidArgument(
            f"weights=inherit trains nothing, but got epochs={epochs} and seeds={seeds}; use finetune or scratch"
        )
    if weights != "inherit" and epochs == 0:
        raise InvalidArgument(f"weights={weights} trains, but `epochs` is 0; give at least 1")


def _check_slices(most: Mapping[str, int], chains: Sequence[Chain]) -> None:
    for chain in chains:
        if most[chain.name] > chain.channels:
            raise InvalidArgument(
                f"weights=supernet takes slices of the model: {most[chain.name]} channels in `{chain.name}` are "
                f"more than its {chain.channels}; use multipliers of at most 1"
            )


def _device(name: str) -> torch.device:
    try:
        device = torch.zeros(1, device=name).double().device
        if device.type != "meta":  # which has no values
            return device
        reason = "it holds no values"
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        reason = (str(error).splitlines() or ["it does not exist"])[0].split(". ")[0]
    there = ", ".join(["cpu", *_accelerators()])
    raise InvalidArgument(f"device `{name}` cannot be used: {reason}; here there is {there}")


def _accelerators() -> list[str]:
    if not torch.accelerator.is_available():
        return []
    found = torch.accelerator.current_accelerator()
    return [] if found is None else [f"{found.type}:{i}" for i in range(torch.accelerator.device_count())]


def _example(given: Any, data: Split) -> Tensor:
    if given is None:
        return data.inputs[:2].clone()
    if isinstance(given, tuple | list) and len(given) == 1:
        (given,) = given
    if not isinstance(given, Tensor):
        raise InvalidArgument(f"`example_inputs` must be one tensor, shape (n, ...), got {type(given).__name__}")
    if given.shape[1:] != data.inputs.shape[1:] or len(given) == 0:
        raise InvalidArgument(
            f"`example_inputs` has shape {tuple(given.shape)}, but `train` has inputs (n, "
            f"{', '.join(map(str, data.inputs.shape[1:]))}); give a small batch of the same shape"
        )
    return given


def _classes(model: nn.Module, example: Tensor) -> int:
    with torch.no_grad():
        logits = model(example)
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(example):
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise InvalidArgument(f"`model` must return logits of shape ({len(example)}, classes), got {shape}")
    return int(logits.shape[1])


def _over_seeds(scores: list[dict[str, float]]) -> dict[str, float]:
    """Mean of every score; of accuracy and loss also the sample standard deviation, as `<name>_spread`."""
    columns = {name: [row[name] for row in scores] for name in scores[0]}
    means = {name: statistics.fmean(values) for name, values in columns.items()}
    return means | {f"{name}_spread": statistics.stdev(columns[name]) for name in ("accuracy", "loss")}
