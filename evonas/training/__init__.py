"""Train networks from a seed, one by one or many together, and keep what was trained."""

from evonas.training.alone import Recipe, Told, batches, fit, make_optimiser, seeded, train
from evonas.training.closing import ClosingReLU
from evonas.training.layout import Layout, layout
from evonas.training.together import train_kept, train_together
from evonas.training.weights import WeightStore

__all__ = [
    "ClosingReLU",
    "Layout",
    "Recipe",
    "Told",
    "WeightStore",
    "batches",
    "fit",
    "layout",
    "make_optimiser",
    "seeded",
    "train",
    "train_kept",
    "train_together",
]
