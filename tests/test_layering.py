"""How the package is put together: what is installed, what is imported, and when."""

from __future__ import annotations

import configparser
import subprocess
import sys
from pathlib import Path

import pytest

import evonas

ROOT = Path(__file__).parents[1]


def python(code: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a fresh interpreter, started in the repository."""
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def test_the_packages_that_are_installed_are_the_folders() -> None:
    folders = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "evonas").rglob("__init__.py")}
    folders |= {f"evonas.{name}" for name in ("operators", "problems")}
    assert setup()["options"]["packages"].split() == sorted(folders)


def test_top_level_folders_are_linked_into_the_package() -> None:
    for name in ("operators", "problems"):
        assert (ROOT / "evonas" / name).resolve() == ROOT / name


def test_importing_evonas_imports_nothing_heavy() -> None:
    heavy = ["torch", "pymoo", "numpy", "pandas", "sklearn", "matplotlib", "torchmetrics", "scipy", "moocore", "rich"]
    done = python(f"import evonas, sys; print([name for name in {heavy} if name in sys.modules])")
    assert done.stdout.strip() == "[]", done.stderr


def test_a_search_of_a_function_imports_neither_torch_nor_figures() -> None:
    done = python(
        "import evonas, sys\n"
        "problem = evonas.FunctionProblem(lambda x: {'error': x}, {'x': [1, 2, 3]}, {'error': 'min'})\n"
        "evonas.search(problem, sampler='random', budget=2, progress='none')\n"
        "print([name for name in ['torch', 'matplotlib', 'sklearn', 'pymoo.algorithms'] if name in sys.modules])"
    )
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("name", ["operators", "problems"])
def test_the_top_level_folders_cannot_be_imported_by_their_bare_names(name: str) -> None:
    done = python(f"import {name}")
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last == f"ImportError: import this package as `evonas.{name}`; install evonas first (pip install -e .)"


def test_public_names_are_there_and_listed() -> None:
    for name in evonas.__all__:
        assert getattr(evonas, name).__name__ == name
    assert set(evonas.__all__) <= set(dir(evonas))
    with pytest.raises(AttributeError, match="no attribute 'serach'"):
        evonas.serach  # noqa: B018 - the access is the test


def test_every_error_is_also_a_builtin() -> None:
    from evonas import errors

    builtins = [
        (errors.InvalidArgument, ValueError),
        (errors.UnknownName, LookupError),
        (errors.RunError, OSError),
        (errors.EvaluationError, TypeError),
    ]
    for kind, builtin in builtins:
        error = kind("what was wrong")
        assert isinstance(error, builtin)
        assert isinstance(error, errors.EvonasError)
        assert str(error) == "what was wrong"


def test_an_unknown_name_lists_the_nearest_first_and_says_when_there_are_none() -> None:
    from evonas.errors import unknown_name

    assert str(unknown_name("device", "pink", ["ethos", "pynq"])) == "unknown device `pink`; valid names: pynq, ethos"
    assert str(unknown_name("device", "pink", [])) == "unknown device `pink`; valid names: there are none"
