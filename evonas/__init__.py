"""Multi-objective evolutionary search over quantization widths and channel multipliers of PyTorch models.

The public names are imported when they are first used, so that `import evonas` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evonas.chains import Chain
    from evonas.errors import EvonasError
    from evonas.loop import load_result, resume, search
    from evonas.objective import Constraint, Objective
    from evonas.problem import FunctionProblem, Problem, TableProblem
    from evonas.problem.joint import JointSpace
    from evonas.problem.model import ModelProblem
    from evonas.result import Result
    from evonas.space import Gene, SearchSpace
    from evonas.study import Study, compare, load_study, table

__version__ = "0.1.0"

__all__ = [
    "Chain",
    "Constraint",
    "EvonasError",
    "FunctionProblem",
    "Gene",
    "JointSpace",
    "ModelProblem",
    "Objective",
    "Problem",
    "Result",
    "SearchSpace",
    "Study",
    "TableProblem",
    "compare",
    "load_result",
    "load_study",
    "resume",
    "search",
    "table",
]

_HOMES = {
    "Chain": "evonas.chains",
    "Constraint": "evonas.objective",
    "EvonasError": "evonas.errors",
    "FunctionProblem": "evonas.problem",
    "Gene": "evonas.space",
    "JointSpace": "evonas.problem.joint",
    "ModelProblem": "evonas.problem.model",
    "Objective": "evonas.objective",
    "Problem": "evonas.problem",
    "Result": "evonas.result",
    "SearchSpace": "evonas.space",
    "Study": "evonas.study",
    "TableProblem": "evonas.problem",
    "compare": "evonas.study",
    "load_result": "evonas.loop",
    "load_study": "evonas.study",
    "resume": "evonas.loop",
    "search": "evonas.loop",
    "table": "evonas.study",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'evonas' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
