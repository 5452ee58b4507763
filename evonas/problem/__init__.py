"""What is searched: `Problem` and the ways to make one."""

from __future__ import annotations

from evonas.problem.base import Estimate, Problem, Sensitivities
from evonas.problem.function import FunctionProblem
from evonas.problem.table import TableProblem

__all__ = ["Estimate", "FunctionProblem", "Problem", "Sensitivities", "TableProblem"]
