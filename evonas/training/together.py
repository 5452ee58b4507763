"""Train many networks of one architecture and different widths at the same time.

For networks this small a step's cost is that of calling the operations, not of their arithmetic: sixteen networks in
one stack take little more of it than one. Where numba is installed and the training long enough, a whole step is one
call of compiled code instead, and padding costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from evonas.training.alone import Recipe, Told, fit, train
from evonas.training.layout import Layout, layout
from evonas.training.stack import Stack
from evonas.training.weights import WeightStore

if TYPE_CHECKING:  # needs numba, which is optional
    from evonas.training.packed import Packed

__all__ = ["train_kept", "train_together"]

GROUP = 16  # networks of a stack, which bounds memory and what a kill loses
PAYS = 2**29  # weights times samples times epochs, from where compiled code saves 16 networks what loading it takes
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

    The result for a network is a function of it, of `widest`, of the other arguments and of whether numba is installed,
    never of the networks that it is trained with, bit for bit. Every step is that of `train` within float error; over
    many steps Adam can carry a rounding as far as it carries one in the first weights. Networks that cannot be stacked
    (see `layout`), or for which a stack would be slower, are trained one by one.

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
    compiled = shared is not None and shared.weights * len(inputs) * epochs >= PAYS and _compiles()
    if shared is not None and not compiled and shared.weights * min(recipe.batch, len(inputs)) > MOST:
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
            stack = _stack(shared, group, inputs, targets, recipe.batch, compiled=compiled)
            _train_stack(stack, group, len(inputs), epochs=epochs, seed=seed, recipe=recipe, told=part)
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


def _stack(
    shared: Layout, networks: Sequence[nn.Module], inputs: Tensor, targets: Tensor, batch: int, *, compiled: bool
) -> Stack | Packed:
    if compiled:
        from evonas.training.packed import Packed

        return Packed(shared, networks, inputs, targets, batch=batch)
    return Stack(shared, networks, inputs, targets)


def _train_stack(
    stack: Stack | Packed,
    networks: Sequence[nn.Module],
    samples: int,
    *,
    epochs: int,
    seed: int,
    recipe: Recipe,
    told: Told | None,
) -> None:
    with stack.threads():
        fit(stack.differentiate, stack.parameters(), samples, epochs=epochs, seed=seed, recipe=recipe, told=told)
    stack.write(networks)
    for network in networks:
        network.eval()


def _compiles() -> bool:
    """Whether numba is installed; it is loaded then."""
    try:
        import evonas.training.packed  # noqa: F401
    except ImportError:
        return False
    return True


def _part(told: Told | None, before: int, now: int, networks: int) -> Told | None:
    """`told` over all networks, for the training of `now` of them with `before` done."""
    if told is None:
        return None
    return lambda done, steps: told(before * steps + now * done, networks * steps)
