"""A second device that only pretends: `torch.device("pretend")` computes on the CPU, and is strict as CUDA is.

Tensors on it are wrappers of CPU tensors, reached through torch's own dispatcher (the `PrivateUse1` backend), so that
any code runs on it unchanged. As on CUDA

- tensors of both devices do not mix, but for numbers (0 dimensions) in element-wise operations, and indices;
- there is no `.numpy()`, and generators of the CPU draw nothing;
- it has random numbers of its own, which `torch.manual_seed` seeds as well;
- backward passes run in another thread;
- matrix products and convolutions take TF32 inputs (10 bits of mantissa) where CUDA's settings say so: the default
  for convolutions.

What it cannot show: anything about time, memory, streams, or kernels that sum in another order than the CPU's.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._pytree import tree_leaves, tree_map

NAME = "pretend"
_HOME = torch.device("privateuseone", 0)  # which torch calls by `NAME` once that is registered
_ATEN = torch.ops.aten
_COPIES = (_ATEN.copy_, _ATEN._to_copy, _ATEN._copy_from)
_INDEXED = (_ATEN.index, _ATEN.index_put, _ATEN.index_put_, _ATEN._index_put_impl_, _ATEN._unsafe_index)
_NUMBERS = (_ATEN.fill_, _ATEN.masked_fill, _ATEN.masked_fill_, _ATEN._fused_adamw_)  # besides element-wise ones
_PRODUCTS = (_ATEN.mm, _ATEN.addmm, _ATEN.bmm, _ATEN.baddbmm, _ATEN.linear, _ATEN.matmul, _ATEN.addmv, _ATEN.mv)
_CONVOLUTIONS = (_ATEN.convolution, _ATEN.convolution_backward, _ATEN.conv1d, _ATEN.conv2d, _ATEN.conv3d)


class OnDevice(Tensor):
    """A tensor on the device: its shape and strides, and the CPU tensor that holds its values."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> OnDevice:
        assert type(inner) is Tensor, "a tensor of the device inside another"
        made: OnDevice = Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=_HOME,
        )
        made.inner = inner
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["inner"], None  # so that `Module.to` keeps the identity of parameters, as it does on CUDA

    @staticmethod
    def __tensor_unflatten__(inner: Mapping[str, Tensor], _context: None, _size: Any, _stride: Any) -> OnDevice:
        return OnDevice(inner["inner"])

    def __repr__(self) -> str:  # type: ignore[override]
        return f"{self.inner!r} on {NAME}"

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if self.dim() == 0 else repr(self)

    def tolist(self) -> Any:
        return self.inner.tolist()

    def numpy(self, **_: Any) -> Any:
        raise TypeError(f"can't convert {_HOME} device type tensor to numpy. Use Tensor.cpu() first")

    def __array__(self, *_: Any, **__: Any) -> Any:
        return self.numpy()

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError(f"a tensor on {_HOME} is about to be stored: another machine may not have such a device")


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """What `func` returns, computed on the CPU: on the device unless it is asked for another one."""
    _check(func, args, kwargs)
    known = {id(t.inner): t for t in tree_leaves((args, kwargs)) if isinstance(t, OnDevice)}
    args, kwargs = tree_map(_inner, (args, kwargs))
    asked = kwargs.get("device")
    elsewhere = asked is not None and torch.device(asked).type != _HOME.type
    if asked is not None and not elsewhere:
        kwargs["device"] = torch.device("cpu")
    with _Drawing(func):
        found = func(*_narrowed(func, args), **kwargs)
    return found if elsewhere else tree_map(lambda value: _outer(value, known), found)


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, OnDevice) else value


def _outer(value: Any, known: Mapping[int, OnDevice]) -> Any:
    if not isinstance(value, Tensor):
        return value
    if id(value) not in known:
        return OnDevice(value)
    given = known[id(value)]
    assert given.shape == value.shape, "its shape was changed in place, which this device does not follow"
    return given


def _check(func: Any, args: Any, kwargs: Mapping[str, Any]) -> None:
    """Raise where CUDA would: tensors of two devices, or a generator of another one."""
    packet = func.overloadpacket
    strangers = _strangers((args, kwargs))
    ours = any(isinstance(t, OnDevice) for t in tree_leaves((args, kwargs)))
    if isinstance(kwargs.get("generator"), torch.Generator):
        raise RuntimeError(f"Expected a '{NAME}' device type for generator but found 'cpu'")
    if not strangers or not ours or packet in _COPIES:
        return
    if packet in _INDEXED and isinstance(args[0], OnDevice):
        strangers = [
            t for t in tree_leaves((args[2:], kwargs)) if isinstance(t, Tensor) and t.device.type != _HOME.type
        ]
    numbers = torch.Tag.pointwise in func.tags or packet in (*_NUMBERS, *_INDEXED)
    if not (numbers and all(t.dim() == 0 for t in strangers)) or any(_written(func, args, kwargs)):
        raise RuntimeError(f"{func}: expected all tensors to be on the same device, found {NAME}:0 and cpu")


def _written(func: Any, args: Any, kwargs: Mapping[str, Any]) -> Iterator[Tensor]:
    """Tensors of another device that `func` writes to."""
    for position, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            given = args[position] if position < len(args) else kwargs.get(argument.name)
            yield from _strangers(given)


def _strangers(values: Any) -> list[Tensor]:
    """The tensors among `values` that are not on the device."""
    return [t for t in tree_leaves(values) if isinstance(t, Tensor) and t.device.type != _HOME.type]


def _narrowed(func: Any, args: Any) -> Any:
    """The arguments as TF32 has them, where CUDA's settings let this operation take them so."""
    packet, backends = func.overloadpacket, torch.backends
    narrow = (packet in _PRODUCTS and backends.cuda.matmul.fp32_precision == "tf32") or (
        packet in _CONVOLUTIONS and backends.cudnn.conv.fp32_precision == "tf32"  # type: ignore[attr-defined]
    )
    return tree_map(_tf32, args) if narrow else args


def _tf32(value: Any) -> Any:
    if not isinstance(value, Tensor) or value.dtype != torch.float32:
        return value
    return ((value.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


class _Drawing:
    """Inside, random operations draw from the device's own generator."""

    def __init__(self, func: Any) -> None:
        self._draws = torch.Tag.nondeterministic_seeded in func.tags

    def __enter__(self) -> None:
        if self._draws:
            self._cpu = torch.get_rng_state()
            torch.set_rng_state(MODULE.state)

    def __exit__(self, *_: object) -> None:
        if self._draws:
            MODULE.state = torch.get_rng_state()
            torch.set_rng_state(self._cpu)


class Event:
    """A moment on the device's stream. Nothing is queued here, so that it is the moment of the call."""

    def __init__(self, enable_timing: bool = False) -> None:
        self._timed, self._at = enable_timing, None

    def record(self, stream: object) -> None:
        assert stream is MODULE.stream, "recorded on a stream of another device"
        self._at = time.perf_counter()
        MODULE.events += 1

    def synchronize(self) -> None:
        assert self._at is not None, "never recorded"

    def elapsed_time(self, end: Event) -> float:
        """Milliseconds from this one to `end`."""
        assert self._timed
        assert self._at is not None
        assert end._at is not None
        return 1e3 * (end._at - self._at)


class _Module:
    """What torch asks of a device: `torch.pretend`."""

    Event = Event

    def __init__(self) -> None:
        self.stream = object()
        self.events = 0
        self.state = torch.Generator().get_state()

    def is_initialized(self) -> bool:
        return True

    def is_available(self) -> bool:
        return True

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return 1

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        self.state = torch.Generator().manual_seed(seed).get_state()

    def get_rng_state(self, _device: object = 0) -> Tensor:
        return self.state.clone()

    def set_rng_state(self, state: Tensor, _device: object = 0) -> None:
        self.state = state.clone()

    def current_stream(self, _device: object = 0) -> object:
        return self.stream

    def get_device_name(self, _device: object = 0) -> str:
        return "a device that pretends"

    def synchronize(self, _device: object = 0) -> None:
        pass


MODULE = _Module()


def _made(op: Any) -> Any:
    def kernel(*args: Any, **kwargs: Any) -> Any:
        return _run(op, args, {**kwargs, "device": _HOME})

    return kernel


def _copied(source: Tensor, target: Tensor, _non_blocking: bool = False) -> Tensor:
    _inner(target).copy_(_inner(source))
    return target


def register() -> bool:
    """Make the device known to torch, once a process; False where this torch cannot."""
    if not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"):
        return False
    if not hasattr(torch, NAME):
        backend_registration._setup_privateuseone_for_python_backend(NAME, backend_module=MODULE)
        # All that makes a tensor where there was none goes through these.
        torch.library.impl("aten::empty.memory_format", "PrivateUse1", _made(_ATEN.empty.memory_format))
        torch.library.impl("aten::empty_strided", "PrivateUse1", _made(_ATEN.empty_strided.default))
        for name in ("default", "start", "start_step"):  # torch's own makes an empty tensor grow
            op, dot = getattr(_ATEN.arange, name), "" if name == "default" else f".{name}"
            torch.library.impl(f"aten::arange{dot}", "PrivateUse1", _made(op))
        torch.library.impl("aten::_copy_from", "PrivateUse1", _copied)
    return True
