"""Convolutions of at most 8 bits whose sums are exact: the same bits in integers, which are faster.

While no partial sum reaches 2^24 (see `evonas.engine.linear`), float32 gives the exact result, and so do the 8-bit
instructions of the processor, which change nothing but the time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import Node

from evonas.engine.fused import kernels
from evonas.engine.kernels import General, GeneralStep
from evonas.engine.linear import grid_of, largest_inputs
from evonas.engine.values import Listed, Value
from evonas.formats import Fixed, Format
from evonas.plan import LayerPlan

__all__ = ["Convolution", "eight_bits_work"]

_Convolved = Callable[[Tensor], Tensor]  # codes to the result


class Convolution(General):
    """A two-dimensional convolution on the CPU."""

    @staticmethod
    def suits(module: nn.Module | None, node: Node, rank: int) -> bool:
        """Whether a node that receives a tensor of `rank` dimensions is one of these."""
        if type(module) is not nn.Conv2d or module.padding_mode != "zeros" or isinstance(module.padding, str):
            return False
        return rank == 4 and not node.kwargs and module.weight.device.type == "cpu"

    def run(self, step: GeneralStep, values: Mapping[Node, Value]) -> Listed:
        found: list[Any] = []
        codes, last = None, -1
        for variant, plan in enumerate(step.plans):
            assert plan is not None
            convolved = self._exact(plan)
            if convolved is not None and step.data[variant] != last:
                (arrived, *_), _ = self.arguments(step, values, variant, turned=True)
                codes, last = _codes(plan.data_in, arrived), step.data[variant]
            if convolved is None or codes is None:
                found.append(self.alone(step, values, variant, plan))
            else:
                found.append(convolved(codes))
        return Listed(found, turned=True)

    def _exact(self, plan: LayerPlan) -> _Convolved | None:
        """The convolution in integers under `plan`, made once; None where that may not be exact."""
        if id(plan) not in self._made:
            module = self._network.graph.get_submodule(str(self._node.target))
            tensors = self._network.parameters_of(plan)
            self._made[id(plan)] = _eight_bit(module, plan, tensors["weight"], tensors.get("bias"))
        return self._made[id(plan)]

    @cached_property
    def _made(self) -> dict[int, _Convolved | None]:
        return {}


def _codes(data: Format, values: Tensor) -> Tensor | None:
    """`values` (images) as integers of a fixed-point format of at most 8 bits, 128 added; None if one is NaN."""
    grid = grid_of(data)
    values = values.contiguous(memory_format=torch.channels_last)
    compiled = kernels(values.device, values.numel())
    if compiled is None:
        codes = (values * grid.scale).round_().clamp_(grid.lowest, grid.highest).add_(128.0)
        return None if bool(codes.sum().isnan()) else codes.to(torch.uint8)
    found = torch.empty_like(values, dtype=torch.uint8)
    read, written = (tensor.permute(0, 2, 3, 1).reshape(-1).numpy() for tensor in (values, found))
    return None if compiled.encode(read, *map(np.float32, grid), written) else found


def _eight_bit(module: Any, plan: LayerPlan, weight: Tensor, bias: Tensor | None) -> _Convolved | None:
    """The convolution of codes; None where data or weight have more than 8 bits, or sums may not be exact."""
    largest = largest_inputs(plan, weight.flatten(1), bias)
    small = largest >= 0 and max(plan.data_in.width, plan.weight.width) <= 8
    if not small or largest <= -grid_of(plan.data_in).lowest or not eight_bits_work():
        return None
    return _integers(module, grid_of(plan.data_in).scale, grid_of(plan.weight).scale, weight, bias)


def _integers(module: Any, data: float, weights: float, weight: Tensor, bias: Tensor | None) -> _Convolved:
    """The convolution of codes with a weight of at most 8 bits, both with that many integers in one."""
    scales, zeros = torch.full((len(weight),), 1 / weights), torch.zeros(len(weight), dtype=torch.int32)
    whole = (weight * weights).round_().to(torch.int8)
    shape = (list(module.stride), list(module.padding), list(module.dilation), module.groups)
    packed = torch.ops.onednn.qconv_prepack(whole, scales, 1 / data, 128, *shape, None)

    def convolved(codes: Tensor) -> Tensor:
        found: Tensor = torch.ops.onednn.qconv2d_pointwise(
            codes, 1 / data, 128, packed, scales, zeros, None, *shape, 1.0, 0, torch.float32, "none", [], ""
        )
        return found if bias is None else found.add_(bias.view(1, -1, 1, 1))

    return convolved


@cache
def eight_bits_work() -> bool:
    """Whether this processor's 8-bit convolutions are there, and exact at the ends of their range.

    Some without VNNI instructions saturate sums of two products.
    """
    module = nn.Conv2d(16, 8, 3, padding=1, bias=False)
    generator = torch.Generator().manual_seed(0)
    weight = torch.randint(-128, 128, module.weight.shape, generator=generator).float()
    weight[0], weight[1] = 127.0, -128.0
    values = torch.randint(-128, 128, (3, 16, 5, 5), generator=generator).float()
    values[0], values[1] = 127.0, -128.0
    codes = _codes(Fixed(8, 0), values)
    assert codes is not None
    try:
        found = _integers(module, 1.0, 1.0, weight, None)(codes)
    except (AttributeError, RuntimeError, TypeError):
        return False
    return torch.equal(found, nn.functional.conv2d(values, weight, padding=1))
