"""A user's data: read once, checked, held as tensors."""

from __future__ import annotations

from collections.abc import Iterable, Sized
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from evonas.errors import InvalidArgument

__all__ = ["Split", "check_labels", "read_split", "read_splits"]


@dataclass(frozen=True)
class Split:
    """Inputs, shape (n, ...), and class indices, shape (n,)."""

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def to(self, device: torch.device | str) -> Split:
        """The same on `device`."""
        return Split(self.inputs.to(device), self.targets.to(device))


def read_split(name: str, data: Any) -> Split:
    """All of `data` as one split.

    Args:
        name: of the split, for messages.
        data: a `Split`, a pair of tensors `(inputs, targets)`, or any iterable of such pairs: batches of a
            DataLoader, or single samples of a Dataset. It is iterated once.

    Raises:
        InvalidArgument: it is empty, no pairs, of uneven shapes, or holds values that are not finite or labels that
            are not whole numbers.
    """
    if isinstance(data, Split):
        pairs: list[Any] = [(data.inputs, data.targets)]
    elif _is_pair(data) and all(isinstance(part, Tensor) for part in data):
        pairs = [data]
    elif isinstance(data, Iterable) or (hasattr(data, "__getitem__") and isinstance(data, Sized)):
        pairs = list(_samples(data))
    else:
        raise InvalidArgument(f"`{name}` must be an iterable of (inputs, targets), got {type(data).__name__}")
    if not pairs:
        raise InvalidArgument(f"`{name}` is empty; give at least one sample")
    batches = [_batch(name, number, pair) for number, pair in enumerate(pairs)]
    try:
        inputs, targets = (torch.cat(parts) for parts in zip(*batches, strict=True))
    except RuntimeError as error:
        raise InvalidArgument(f"`{name}` has inputs of different shapes: {str(error).splitlines()[0]}") from None
    return _checked(name, inputs, targets)


def read_splits(train: Any, validation: Any, test: Any) -> tuple[Split, Split, Split]:
    """All three splits, each as `read_split` takes it; `test` may be None, which makes it empty.

    Raises:
        InvalidArgument: a split cannot be read, or samples of two splits have different shapes.
    """
    first, second = read_split("train", train), read_split("validation", validation)
    third = read_split("test", test) if test is not None else Split(second.inputs[:0], second.targets[:0])
    for name, split in (("validation", second), ("test", third)):
        if split.inputs.shape[1:] != first.inputs.shape[1:]:
            raise InvalidArgument(
                f"`{name}` has inputs of shape {tuple(split.inputs.shape[1:])} a sample, `train` has "
                f"{tuple(first.inputs.shape[1:])}; give all splits one shape"
            )
    return first, second, third


def _samples(data: Any) -> Iterable[Any]:
    """The items of `data`; a map-style Dataset without `__iter__` ends at its length."""
    return data if isinstance(data, Iterable) else (data[i] for i in range(len(data)))


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2


def _batch(name: str, number: int, pair: Any) -> tuple[Tensor, Tensor]:
    if not _is_pair(pair):
        raise InvalidArgument(f"`{name}` must yield pairs (inputs, targets); item {number} is a {type(pair).__name__}")
    inputs, targets = torch.as_tensor(pair[0]), torch.as_tensor(pair[1])
    if targets.ndim == 0:  # a single sample
        inputs, targets = inputs[None], targets[None]
    if targets.ndim != 1 or len(inputs) != len(targets):
        raise InvalidArgument(
            f"`{name}`: item {number} has inputs of shape {tuple(inputs.shape)} and targets of shape "
            f"{tuple(targets.shape)}; expected (n, ...) and class indices (n,)"
        )
    return inputs, targets


def _checked(name: str, inputs: Tensor, targets: Tensor) -> Split:
    if len(targets) == 0:
        raise InvalidArgument(f"`{name}` is empty; give at least one sample")
    if targets.is_floating_point() and not bool((targets == targets.round()).all()):
        raise InvalidArgument(f"`{name}` has targets that are not whole numbers; expected class indices")
    if inputs.is_floating_point() and not bool(torch.isfinite(inputs).all()):
        row = int((~torch.isfinite(inputs).reshape(len(inputs), -1).all(1)).nonzero()[0])
        raise InvalidArgument(f"`{name}` has an input that is not finite, first in sample {row}; clean the data")
    return Split(inputs.detach(), targets.detach().long())


def check_labels(name: str, split: Split, classes: int) -> None:
    """Raise unless every label is one of `classes`.

    Raises:
        InvalidArgument: with the first label outside, and the sample it is of.
    """
    outside = (split.targets < 0) | (split.targets >= classes)
    if bool(outside.any()):
        row = int(outside.nonzero()[0])
        raise InvalidArgument(
            f"`{name}` has label {int(split.targets[row])} in sample {row}, but the model has {classes} outputs; "
            f"expected 0 to {classes - 1}"
        )
