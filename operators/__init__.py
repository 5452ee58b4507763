"""pymoo operators for genomes: they work inside any pymoo algorithm.

Every one takes the `SearchSpace` it works on, and draws only from the generator that pymoo hands it.
"""

from __future__ import annotations

if __name__ != "evonas.operators":
    raise ImportError("import this package as `evonas.operators`; install evonas first (pip install -e .)")

from evonas.operators.crossover import GenomeCrossover
from evonas.operators.duplicates import GenomeDuplicates
from evonas.operators.mutation import GenomeMutation
from evonas.operators.repair import BudgetRepair
from evonas.operators.sampling import GenomeSampling

__all__ = ["BudgetRepair", "GenomeCrossover", "GenomeDuplicates", "GenomeMutation", "GenomeSampling"]
