"""A slimmable network: one set of weights that holds every smaller channel configuration as a slice.

Trained over the chains by the sandwich rule with in-place distillation (Yu et al. 2019, arXiv:1812.08928; Yu and Huang
2019, arXiv:1903.05134): each step trains the largest network on the labels, and the smallest and some between them on
what the largest says. One thing differs from these papers, as slices are there to be compared
(`runs/supernet_study.py`): sizes are drawn evenly over the logarithm of the parameters, where most networks of random
channels are large.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from evonas.errors import InvalidArgument
from evonas.graph import Chains, resize
from evonas.quantize import single_thread
from evonas.randomness import random_state
from evonas.space import FloatArray, IntArray
from evonas.training import Recipe, batches, make_optimiser

__all__ = ["Slice", "Supernet", "evenly"]

_BETWEEN = 3  # networks a step, besides the largest and the smallest

Channels = Mapping[str, int]


class Slice:
    """One channel configuration: a module of that size, and where in the supernet each of its elements is.

    Args:
        module: in the slice's shapes; its values are overwritten.
        places: name of each parameter and buffer -> flat index into the supernet's tensor, in the slice's shape.
    """

    def __init__(self, module: nn.Module, places: Mapping[str, Tensor]) -> None:
        self.module = module
        self.places = dict(places)

    @property
    def size(self) -> int:
        """Its parameters."""
        return sum(parameter.numel() for parameter in self.module.parameters())

    def parameters(self, full: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The slice of the supernet's parameters `full`; gradients flow back."""
        return {name: full[name].reshape(-1)[place] for name, place in self.places.items() if name in full}

    def run(self, full: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
        """Logits (n, classes) of the slice for `inputs` (n, ...)."""
        logits: Tensor = torch.func.functional_call(self.module, self.parameters(full), (inputs,))
        return logits


class Supernet:
    """A model whose every smaller channel configuration is a slice of it: its first channels.

    Args:
        model: the largest network, with the weights to start from; copied.
        chains: of `find_chains` on it.
    """

    def __init__(self, model: nn.Module, chains: Chains) -> None:
        self.model = copy.deepcopy(model)
        self.chains = chains

    def train(
        self,
        inputs: Tensor,
        targets: Tensor,
        *,
        networks: Sequence[Channels],
        epochs: int,
        seed: int,
        recipe: Recipe,
    ) -> None:
        """Train in place: each step the largest network, the smallest of `networks`, and three others of them.

        Args:
            inputs: shape (n, ...).
            targets: class indices, shape (n,).
            networks: channel counts that the steps draw from; what they leave out is as in the model.
            epochs: passes over the data.
            seed: of the shuffling, of dropout, and of the random networks.
            recipe: learning rate, batch, weight decay.
        """
        rng = np.random.default_rng(seed)
        smallest, *pool = sorted((self.cut(channels) for channels in networks), key=lambda part: part.size)
        optimiser, schedule = make_optimiser(self.model.parameters(), recipe, epochs * -(-len(inputs) // recipe.batch))
        full = dict(self.model.named_parameters())
        self.model.train()
        with single_thread(), torch.enable_grad(), random_state(seed, inputs.device):
            for rows in batches(len(inputs), recipe.batch, epochs, seed):
                optimiser.zero_grad()
                logits = self.model(inputs[rows])
                torch.autograd.backward(nn.functional.cross_entropy(logits, targets[rows]))
                teacher = logits.detach().softmax(1)
                between = rng.choice(len(pool), min(_BETWEEN, len(pool)), replace=False)
                for part in (smallest, *(pool[number] for number in between)):
                    _distil(part, full, inputs[rows], teacher)
                optimiser.step()
                schedule.step()
        self.model.eval()

    def cut(self, channels: Channels) -> Slice:
        """The slice with `channels` in the named chains, in training mode.

        Raises:
            InvalidArgument: a count above the model's.
        """
        for name, count in channels.items():
            if count > self.chains[name].channels:
                raise InvalidArgument(
                    f"`{name}` has {self.chains[name].channels} channels in the supernet, {count} do not fit"
                )
        marked = _numbered(self.model)
        sized = resize(marked, channels, chains=self.chains, importance=_first)
        states = {**dict(sized.named_parameters()), **dict(sized.named_buffers())}
        places = {name: value.detach().round().long() for name, value in states.items() if value.is_floating_point()}
        full = self.model.state_dict()
        values = {
            name: full[name].cpu().reshape(-1)[places[name]] if name in places else full[name]
            for name in sized.state_dict()
        }
        sized.float().load_state_dict(values)
        device = next(self.model.parameters()).device
        return Slice(sized.to(device).train(), {name: place.to(device) for name, place in places.items()})

    def network(self, channels: Channels) -> nn.Module:
        """A stand-alone module with `channels` in the named chains and the supernet's weights, in evaluation mode.

        The statistics of its batch norms are those of the largest network: recalibrate them.
        """
        return self.cut(channels).module.eval()


def _distil(part: Slice, full: Mapping[str, Tensor], inputs: Tensor, teacher: Tensor) -> None:
    """Add the gradients of a slice's cross entropy with what the largest network said."""
    torch.autograd.backward(nn.functional.cross_entropy(part.run(full, inputs), teacher))


def evenly(values: FloatArray, count: int) -> IntArray:
    """Which of `values`, shape (n,), are nearest to `count` even steps from the lowest to the highest; each once."""
    free, picked = np.ones(len(values), dtype=bool), []
    for target in np.linspace(values.min(), values.max(), min(count, len(values))):
        picked.append(int(np.where(free, np.abs(values - target), np.inf).argmin()))
        free[picked[-1]] = False
    return np.array(sorted(picked, key=lambda row: values[row]), dtype=np.int64)


def _numbered(model: nn.Module) -> nn.Module:
    """A copy in double precision in which every element holds its own flat index."""
    marked = copy.deepcopy(model).double().cpu()
    with torch.no_grad():
        for value in [*marked.parameters(), *marked.buffers()]:
            if value.is_floating_point():
                value.copy_(torch.arange(value.numel(), dtype=torch.float64).reshape(value.shape))
    return marked


def _first(weight: Tensor, dim: int) -> Tensor:
    """Importance by position: the first channels are kept, so that slices nest."""
    return -torch.arange(weight.shape[dim], dtype=torch.float64)
