"""Functions that numba compiles; numba is optional.

Floats are those of IEEE 754, taken in the order in which a function takes them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

__all__ = ["compiled", "inner"]

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """`function`, of numbers and NumPy arrays, compiled at its first call and kept on disk where that is possible.

    Raises:
        ImportError: numba is not installed, or not for this NumPy.
    """
    import numba

    try:
        made: Function = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # nowhere to keep it
        made = numba.njit(nogil=True, error_model="numpy")(function)
    return made


def inner(function: Function) -> Function:
    """The same of a function that compiled ones alone call, and which is kept with them: faster to compile."""
    import numba

    wrap = numba.njit(nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
    made: Function = wrap(function)
    return made
