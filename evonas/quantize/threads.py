"""How torch computes while something is evaluated or trained: threads, and the precision of products."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import ContextVar
from functools import cache, partial
from typing import Any, NamedTuple

import torch
from threadpoolctl import ThreadpoolController

__all__ = ["full_precision", "single_thread", "single_thread_of_blas"]


@contextmanager
def single_thread() -> Iterator[None]:
    """One thread of torch and of BLAS inside the block, and full precision.

    One is faster for small networks, and takes sums in one fixed order.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with full_precision(), single_thread_of_blas():
            yield
    finally:
        torch.set_num_threads(before)


def single_thread_of_blas() -> AbstractContextManager[object]:
    """One thread of NumPy's and SciPy's BLAS inside the block; compiled code calls the latter."""
    limited: AbstractContextManager[object] = _libraries().limit(limits=1, user_api="blas")
    return limited


@cache
def _libraries() -> ThreadpoolController:
    """Finding them takes milliseconds, and finds those that are there."""
    import scipy.linalg  # noqa: F401

    return ThreadpoolController()


@contextmanager
def full_precision() -> Iterator[None]:
    """Products of float32 in float32 inside the block, and the same convolution algorithm every time.

    By default a GPU convolves float32 in TF32, with 10 bits of mantissa: `fixed16` values would lose bits that their
    format has, and sums of integers below 2^24 would not be exact. What the user has set is back afterwards.
    """
    if _inside.get():  # changing settings takes as long as a small layer
        yield
        return
    kept = []
    for setting in _SETTINGS:
        with suppress(RuntimeError):  # torch does not read an older setting whose newer one says otherwise
            kept.append((setting.write, setting.read()))
    token = _inside.set(True)
    try:
        for setting in _SETTINGS:
            setting.write(setting.wanted)
        yield
    finally:
        _inside.reset(token)
        for write, value in kept:
            write(value)


class _Setting(NamedTuple):
    """A global setting of torch: how it is read and written, and what is wanted."""

    read: Callable[[], Any]
    write: Callable[[Any], None]
    wanted: Any

    @classmethod
    def of(cls, owner: Any, name: str, wanted: Any) -> _Setting:
        """An attribute of `owner`."""
        return cls(partial(getattr, owner, name), partial(setattr, owner, name), wanted)


def _settings() -> Iterator[_Setting]:
    backends: Any = torch.backends
    yield _Setting(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest")
    yield _Setting.of(backends.cudnn, "allow_tf32", False)
    yield _Setting.of(backends.cudnn, "benchmark", False)
    yield _Setting.of(backends.cudnn, "deterministic", True)
    # Newer versions have these as well, and refuse to compute where old and new do not agree.
    for backend, operation in itertools.product(("cuda", "cudnn", "mkldnn"), ("matmul", "conv", "rnn")):
        owner = getattr(getattr(backends, backend), operation, None)
        if hasattr(owner, "fp32_precision"):
            yield _Setting.of(owner, "fp32_precision", "ieee")


_SETTINGS = tuple(_settings())
_inside = ContextVar("inside full_precision", default=False)
