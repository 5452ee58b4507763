"""Evaluating a generation together: each distinct value of a network's graph is computed once."""

from evonas.engine.engine import MEMORY, Engine
from evonas.engine.race import race
from evonas.engine.scores import Labelled, Scores, Totals, scores, totals
from evonas.engine.walk import Outputs, Walk

__all__ = ["MEMORY", "Engine", "Labelled", "Outputs", "Scores", "Totals", "Walk", "race", "scores", "totals"]
