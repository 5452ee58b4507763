"""What is searched: `Problem` and the two ways to make one."""

from __future__ import annotations

from evonas.problem.base import Estimate, Problem
from evonas.problem.function import FunctionProblem

__all__ = ["Estimate", "FunctionProblem", "Problem"]
