"""Train many networks of one architecture and different widths at the same time.

For networks this small a step's cost is that of calling the operations, not of their arithmetic: sixteen networks in
one stack take little more of it than one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn

from evonas.training.alone import Recipe, Told, fit, train
from evonas.training.stack import Layout, Stack, layout
from evonas.training.weights import WeightStore

__all__ = ["train_kept", "train_together"]

GROUP = 16  # networks of a stack, which bounds memory and what a kill loses
MOST = 2**22  # padded weights times samples of a step, from where the arithmetic of padding costs more than it saves


def train_together(
    networks: Sequence[nn.Module],
    inputs: Tensor,
    targets: Tensor,
    *,
    widest: nn.Module,
    epochs: int,
    seed: int,
    recipe: Recipe | None = None,
    told: Told | None = None,
) -> None:
    """Train classifiers in place, as `train` does each from the same seed.

    The result for a network is a function of it, of `widest` and of the other arguments, never of the networks that
    it is trained with, bit for bit; and within float error that of `train`. Networks that cannot be stacked (see
    `layout`), or for which a stack would be slower, are trained one by one.

    Args:
        networks: of one architecture, none wider than `widest`; on return in evaluation mode.
        inputs: shape (n, ...).
        targets: class indices, shape (n,).
        widest: a network of the architecture with the most channels that there can be; only its shapes matter.
        epochs: passes over the data.
        seed: of the shuffling, and of dropout.
        recipe: the defaults when None.
        told: called after every step.
    """
    recipe = recipe or Recipe()
    shared = layout(widest, inputs)
    if shared is not None and shared.weights * min(recipe.batch, len(inputs)) > MOST:
        shared = None
    stacked: list[nn.Module] = []
    alone: list[nn.Module] = []
    for network in networks:
        (stacked if shared is not None and shared.fits(network) else alone).append(network)
    groups = [stacked[i : i + GROUP] for i in range(0, len(stacked), GROUP)]
    done = 0
    for group in [*groups, *([network] for network in alone)]:
        part = _part(told, done, len(group), len(networks))
        if shared is not None and group in groups:
            _train_stack(shared, group, inputs, targets, epochs=epochs, seed=seed, recipe=recipe, told=part)
        else:
            train(group[0], inputs, targets, epochs=epochs, seed=seed, recipe=recipe, told=part)
        done += len(group)


def train_kept(
    store: WeightStore,
    wanted: Mapping[str, Callable[[], nn.Module]],
    inputs: Tensor,
    targets: Tensor,
    *,
    widest: Callable[[], nn.Module],
    epochs: int,
    seed: int,
    recipe: Recipe,
    told: Told | None = None,
) -> None:
    """Train the networks of which `store` has no weights, and keep them, a group at a time.

    Args:
        store: where the weights go.
        wanted: the key of each network in `store`, and what makes it, not yet trained.
        inputs: shape (n, ...).
        targets: class indices, shape (n,).
        widest: makes the widest network, see `train_together`.
        epochs: passes over the data.
        seed: of the shuffling, and of dropout.
        recipe: learning rate, batch and weight decay.
        told: called after every step.
    """
    missing = [key for key in wanted if store.load(key) is None]
    shape = widest() if missing else None
    for start in range(0, len(missing), GROUP):
        keys = missing[start : start + GROUP]
        networks = [wanted[key]() for key in keys]
        part = _part(told, start, len(keys), len(missing))
        assert shape is not None
        train_together(networks, inputs, targets, widest=shape, epochs=epochs, seed=seed, recipe=recipe, told=part)
        for key, network in zip(keys, networks, strict=True):
            store.save(key, network.state_dict())


def _train_stack(
    shared: Layout,
    networks: Sequence[nn.Module],
    inputs: Tensor,
    targets: Tensor,
    *,
    epochs: int,
    seed: int,
    recipe: Recipe,
    told: Told | None,
) -> None:
    stack = Stack(shared, networks, inputs, targets)
    fit(stack.differentiate, stack.parameters(), len(inputs), epochs=epochs, seed=seed, recipe=recipe, told=told)
    stack.write(networks)
    for network in networks:
        network.eval()


def _part(told: Told | None, before: int, now: int, networks: int) -> Told | None:
    """`told` over all networks, for the training of `now` of them with `before` done."""
    if told is None:
        return None
    return lambda done, steps: told(before * steps + now * done, networks * steps)
