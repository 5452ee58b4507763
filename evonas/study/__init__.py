"""Samplers x seeds: curves, statistics, tables and figures."""

from __future__ import annotations

from evonas.study.comparison import compare, load_study, table
from evonas.study.results import ProblemResult, Study

__all__ = ["ProblemResult", "Study", "compare", "load_study", "table"]
