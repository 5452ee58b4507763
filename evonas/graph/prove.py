"""Prove chains: a model one step smaller must compute what the original does with those channels hidden."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from evonas.errors import EvonasError
from evonas.graph.assemble import assemble
from evonas.graph.chains import Chain, Chains
from evonas.graph.choose import copies_for, unit_scores
from evonas.graph.flow import Uniform
from evonas.graph.masked import MaskedModel
from evonas.graph.resize import resize

__all__ = ["prove", "randomised"]

_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}


def prove(chains: Chains, *, seed: int = 0) -> Chains:
    """`chains` with those frozen that fail their proof, and why; one that only fails to grow may shrink.

    Every chain is made one step smaller at once, then half as large, with random parameters in float64, and
    compared with the masked original; then those that can grow are made one step larger and compared with
    the original itself. On a difference the chains are bisected. The model of `chains` is not modified.
    """
    for number in range(len(chains) + 1):
        proof = _Proof(chains, seed + number)
        failed, limited = proof.failures()
        if not failed and not limited:
            return chains
        chains = _freeze(chains, dict(failed), dict(limited))
    return chains


def randomised(model: nn.Module, generator: torch.Generator, dtype: torch.dtype) -> nn.Module:
    """A copy of `model` in `dtype` on the CPU with random parameters and statistics.

    With default initialisation (zero biases, unit norms) a channel in the wrong place can go unseen.
    """
    twin = copy.deepcopy(model).to(device="cpu", dtype=dtype).eval()
    with torch.no_grad():
        for parameter in twin.parameters():
            if parameter.is_floating_point():
                fan = max(1, parameter[0].numel()) if parameter.ndim > 1 else 1
                # Variance 1 / fan for weights; scales and shifts of norms around 0.7, biases as well.
                noise = 2 * torch.rand(parameter.shape, generator=generator) - 1
                parameter.copy_(noise * (3.0 / fan) ** 0.5 if parameter.ndim > 1 else 0.7 + 0.5 * noise)
        for name, buffer in twin.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                drawn = torch.rand(buffer.shape, generator=generator, dtype=torch.float64)
                buffer.copy_(drawn + 0.5 if name.endswith("var") else drawn - 0.5)
    return twin


class _Proof:
    """One randomised model and input, on which sets of chains are tried."""

    def __init__(self, chains: Chains, seed: int) -> None:
        self.chains = chains
        structure = chains.structure
        generator = torch.Generator().manual_seed(seed)
        self.dtype = torch.float64
        self.model = randomised(structure.model, generator, self.dtype)
        self.inputs = _inputs(structure.traced.inputs, generator, self.dtype)
        try:
            self.original = self._run(self.model)
        except RuntimeError:  # the model has a dtype of its own written into it
            self.dtype = torch.float32
            self.model, self.inputs = self.model.float(), tree_map(_single, self.inputs)
            self.original = self._run(self.model)

    def failures(self) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """Names and reasons of chains that cannot be proved, and of those that can only shrink."""
        every = list(self.chains.chains.values())
        shrinking = [c for c in every if c.channels - c.step >= c.minimum]
        failed = self._bisect(shrinking, lambda chains: self._smaller(chains, _one_step))
        failed = failed or self._bisect(shrinking, lambda chains: self._smaller(chains, _half))
        names = {name for name, _ in failed}
        growing = [c for c in every if c.growth != "none" and c.name not in names]
        return failed, self._bisect(growing, self._larger)

    def _bisect(self, chains: Sequence[Chain], attempt: Callable[[Sequence[Chain]], str]) -> list[tuple[str, str]]:
        reason = attempt(chains) if chains else ""
        if not reason:
            return []
        if len(chains) == 1:
            return [(chains[0].name, reason)]
        middle = len(chains) // 2
        failed = self._bisect(chains[:middle], attempt) + self._bisect(chains[middle:], attempt)
        # Each half alone is right, only together they are wrong: the second half stays as it is.
        return failed or [(chain.name, reason) for chain in chains[middle:]]

    def _smaller(self, chains: Sequence[Chain], count: Callable[[Chain], int]) -> str:
        channels = {c.name: count(c) for c in chains}
        structure = self.chains.structure
        alive = copies_for(self.chains, channels, unit_scores(structure, self.model, _arbitrary)) > 0
        try:
            found = self._run(resize(self.model, channels, chains=self.chains, importance=_arbitrary))
        except EvonasError as error:
            return str(error)
        except Exception as error:  # a resized model that cannot run has failed its proof
            return _failure("smaller", error)
        with torch.no_grad():
            wanted = MaskedModel(self.model, structure, alive).run(*copy.deepcopy(self.inputs))
        return self._difference(found, wanted, "made smaller it differs from the original with channels hidden")

    def _larger(self, chains: Sequence[Chain]) -> str:
        channels = {c.name: c.channels * 2 if c.growth == "integer" else c.channels + c.step for c in chains}
        try:
            found = self._run(resize(self.model, channels, chains=self.chains, importance=_arbitrary))
        except EvonasError as error:
            return str(error)
        except Exception as error:  # a resized model that cannot run has failed its proof
            return _failure("larger", error)
        return self._difference(found, self.original, "made larger it differs from the original")

    def _run(self, model: nn.Module) -> Any:
        with torch.no_grad():
            return model(*copy.deepcopy(self.inputs))

    def _difference(self, found: Any, wanted: Any, reason: str) -> str:
        ones, others = tree_leaves(found), tree_leaves(wanted)
        if len(ones) != len(others):
            return reason
        for one, other in zip(ones, others, strict=True):
            if isinstance(one, Tensor) and not _close(one, other, _TOLERANCE[self.dtype]):
                return reason
        return ""


def _one_step(chain: Chain) -> int:
    return chain.channels - chain.step


def _half(chain: Chain) -> int:
    return max(chain.minimum, chain.channels // (2 * chain.step) * chain.step)


def _arbitrary(weight: Tensor, dim: int) -> Tensor:
    """A cheap importance: random like the weights, so that chains that were kept apart by mistake drop
    different positions and the mistake shows."""
    return weight.detach()[tuple(slice(None) if d == dim else 0 for d in range(weight.ndim))].abs()


def _failure(direction: str, error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"made {direction} it no longer runs: {type(error).__name__}: {lines[0]}"


def _close(one: Tensor, other: Tensor, tolerance: float) -> bool:
    if one.shape != other.shape:
        return False
    if not one.is_floating_point():
        return torch.equal(one, other)
    scale = float(other.abs().nan_to_num(0.0, 0.0, 0.0).max()) if other.numel() else 0.0
    return torch.allclose(one, other, rtol=tolerance, atol=tolerance * max(scale, 1e-12), equal_nan=True)


def _single(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value


def _inputs(inputs: tuple[Any, ...], generator: torch.Generator, dtype: torch.dtype) -> Any:
    """Random inputs of the example's shapes: an example of all zeros would prove nothing."""

    def draw(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        if not value.is_floating_point():
            return value.cpu()
        return torch.rand(value.shape, generator=generator, dtype=torch.float64).to(dtype)

    return tree_map(draw, inputs)


def _freeze(chains: Chains, failed: dict[str, str], limited: dict[str, str]) -> Chains:
    structure = chains.structure
    for name, reason in (failed | limited).items():
        units = structure.sample[structure.chain_of == int(name.removeprefix("chain"))]
        if name in failed:
            structure.flow.units.freeze(units, reason)
        else:
            structure.flow.never.append(Uniform(reason, units))
    return assemble(structure.flow, structure.shuffles)
