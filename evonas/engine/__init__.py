"""Evaluating a generation together: each distinct value of a network's graph is computed once."""

from evonas.engine.engine import MEMORY, Engine, Outputs
from evonas.engine.scores import Labelled, Scores, Totals, scores, totals

__all__ = ["MEMORY", "Engine", "Labelled", "Outputs", "Scores", "Totals", "scores", "totals"]
