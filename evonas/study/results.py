"""What a study found: curves, tables, verdicts; written as CSV, LaTeX and figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from evonas.errors import InvalidArgument
from evonas.objective import Objective
from evonas.space import FloatArray
from evonas.study.scoring import (
    FACTORS,
    TARGETS,
    Reference,
    area,
    ecdf,
    evaluations_to,
    hypervolume_curve,
    indicators,
    padded,
)
from evonas.study.statistics import LEAST_PROBLEMS, Comparison, Ranking, compare_pairs, friedman, out_of_reach, verdict

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ProblemResult", "RunRecord", "Study"]


@dataclass(frozen=True)
class RunRecord:
    """What one run did.

    Args:
        seed: of the sampler.
        charge: evaluations that the sampler spent besides, rounded up.
        values: what is scored, to be minimised, in order of evaluation, shape (n, k); NaN where it failed.
        seconds: per suggestion, shape (n,).
        known: how many evaluations were known at each suggestion, shape (n,).
    """

    seed: int
    charge: int
    values: FloatArray
    seconds: FloatArray
    known: FloatArray


class ProblemResult:
    """All runs on one problem.

    Args:
        label: of the problem.
        objectives: those that were searched.
        against: the front that runs are measured against.
        budget: evaluations of every run.
        runs: sampler to its runs, the same seeds in the same order for every sampler.
    """

    def __init__(
        self,
        label: str,
        objectives: Sequence[Objective],
        against: Reference,
        budget: int,
        runs: dict[str, list[RunRecord]],
    ) -> None:
        self.label = label
        self.objectives = tuple(objectives)
        self.reference = against
        self.budget = budget
        self.runs = runs

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, which all samplers share."""
        return tuple(run.seed for run in next(iter(self.runs.values())))

    def curves(self, sampler: str, factor: float = FACTORS[0]) -> FloatArray:
        """Share of the reference's hypervolume after 1, ..., budget evaluations, shape (n_seeds, budget)."""
        return np.stack(
            [
                padded(hypervolume_curve(run.values, self.reference, factor), self.budget, run.charge)
                for run in self.runs[sampler]
            ]
        )

    @cached_property
    def _curves(self) -> dict[str, FloatArray]:
        return {sampler: self.curves(sampler) for sampler in self.runs}

    targets = TARGETS

    def ecdf(self, sampler: str) -> FloatArray:
        """Share of seeds and targets reached after 1, ..., budget evaluations, shape (budget,)."""
        return ecdf(self.times(sampler), self.budget)

    def times(self, sampler: str, targets: Sequence[float] = TARGETS) -> FloatArray:
        """Evaluations to each target, infinite where missed, shape (n_seeds, n_targets)."""
        return np.array([[evaluations_to(curve, t) for t in targets] for curve in self._curves[sampler]])

    def summary(self) -> pd.DataFrame:
        """One row a sampler: medians over seeds, the spread of the final hypervolume, and seconds per suggestion."""
        import pandas as pd

        return pd.DataFrame([self._row(sampler) for sampler in self.runs])

    def _row(self, sampler: str) -> dict[str, object]:
        final = self._curves[sampler][:, -1]
        runs, times = self.runs[sampler], self.times(sampler)
        last = [indicators(run.values, self.reference) for run in runs]
        wide = self.curves(sampler, FACTORS[1])[:, -1]
        row: dict[str, object] = {"problem": self.label, "sampler": sampler, "seeds": len(runs), "budget": self.budget}
        row["charge"] = int(np.median([run.charge for run in runs]))
        row["hypervolume"] = float(np.median(final))
        row["low"], row["high"] = (float(q) for q in np.percentile(final, [25, 75]))
        row[f"hypervolume {FACTORS[1]}"] = float(np.median(wide))
        row["area"] = float(np.median([area(curve) for curve in self._curves[sampler]]))
        for target, column in zip(TARGETS, times.T, strict=True):
            row[f"to {target:.0%}"] = float(np.median(column))  # infinite: half of the runs or more missed
            row[f"hit {target:.0%}"] = int(np.isfinite(column).sum())
        row["igd+"] = float(np.median([indicator["igd+"] for indicator in last]))
        row["epsilon"] = float(np.median([indicator["epsilon"] for indicator in last]))
        row["s/suggestion"] = float(np.median(np.concatenate([run.seconds for run in runs])))
        late = [run.seconds[run.known >= 500] for run in runs]
        row["s/suggestion from 500"] = float(np.median(np.concatenate(late))) if any(map(len, late)) else np.nan
        return row

    def pairs(self, what: str = "hypervolume") -> list[Comparison]:
        """Every pair of samplers, by `hypervolume` at the end of the budget or by `area` under the curve."""
        if what not in ("hypervolume", "area"):
            raise InvalidArgument(f"`what` must be hypervolume or area, got `{what}`")
        values = {
            sampler: curves[:, -1] if what == "hypervolume" else curves.mean(axis=1)
            for sampler, curves in self._curves.items()
        }
        return compare_pairs(values)

    def verdicts(self) -> list[str]:
        """A sentence per pair and quantity."""
        end = f"hypervolume on {self.label} after {self.budget} evaluations"
        mean = f"area under the curve on {self.label}"
        return [verdict(p, end) for p in self.pairs()] + [verdict(p, mean) for p in self.pairs("area")]


class Study:
    """The outcome of a comparison.

    Args:
        problems: one result each.
        notes: what a reader must know, such as a budget that a space was too small for; that seeds are too few for
            any test to show anything is added here.
        directory: where the study lives; None when it was not kept.
    """

    def __init__(
        self, problems: Sequence[ProblemResult], notes: Sequence[str] = (), directory: Path | None = None
    ) -> None:
        self.problems = tuple(problems)
        count = len(self.problems[0].runs)
        caution = out_of_reach(len(self.problems[0].seeds), count * (count - 1) // 2)
        self.notes = (*notes, *([] if caution is None else [caution]))
        self.directory = directory

    def summary(self) -> pd.DataFrame:
        """`ProblemResult.summary` of every problem, one below the other."""
        import pandas as pd

        return pd.concat([problem.summary() for problem in self.problems], ignore_index=True)

    def pairs(self) -> pd.DataFrame:
        """Every pair of samplers on every problem, by final hypervolume and by area."""
        import pandas as pd

        rows = [
            {"problem": problem.label, "quantity": what, **asdict(pair)}
            for problem in self.problems
            for what in ("hypervolume", "area")
            for pair in problem.pairs(what)
        ]
        return pd.DataFrame(rows)

    def verdicts(self) -> list[str]:
        """Sentences: a pair of samplers on a problem each, and the ranking where there are enough problems."""
        found = [sentence for problem in self.problems for sentence in problem.verdicts()]
        ranking = self.ranking()
        if ranking is not None:
            order = np.argsort(ranking.ranks)
            ranks = ", ".join(f"{ranking.samplers[i]} {ranking.ranks[i]:.2f}" for i in order)
            found.append(
                f"mean ranks over {len(self.problems)} problems: {ranks} "
                f"(Friedman p = {ranking.p:.2g}, critical difference {ranking.critical_difference:.2f})"
            )
        return found

    def ranking(self) -> Ranking | None:
        """Mean ranks by median final hypervolume; None below five problems or three samplers."""
        samplers = list(self.problems[0].runs)
        if len(self.problems) < LEAST_PROBLEMS or len(samplers) < 3:
            return None
        scores = [[np.median(p.curves(sampler)[:, -1]) for sampler in samplers] for p in self.problems]
        return friedman(np.array(scores), samplers)

    def curves(self) -> pd.DataFrame:
        """Median and quartiles of the share of hypervolume, one row a problem, sampler and number of evaluations."""
        import pandas as pd

        parts = []
        for problem in self.problems:
            for sampler in problem.runs:
                low, middle, high = np.percentile(problem.curves(sampler), [25, 50, 75], axis=0)
                columns = {"evaluations": np.arange(1, problem.budget + 1), "median": middle, "low": low, "high": high}
                parts.append(pd.DataFrame({"problem": problem.label, "sampler": sampler, **columns}))
        return pd.concat(parts, ignore_index=True)

    def latex(self) -> str:
        """The main columns of `summary` as a LaTeX table that needs booktabs; misses are written as `--`."""
        columns = ["sampler", "hypervolume", *(f"to {t:.0%}" for t in TARGETS[1:3]), "area", "igd+", "s/suggestion"]
        lines = [r"\begin{tabular}{l" + "r" * (len(columns) - 1) + "}", r"\toprule"]
        lines.append(" & ".join(column.replace("%", r"\%") for column in columns) + r" \\")
        for problem in self.problems:
            name = problem.label.replace("_", r"\_")
            title = f"{name}, {problem.budget} evaluations, {len(problem.seeds)} seeds"
            lines += [r"\midrule", rf"\multicolumn{{{len(columns)}}}{{l}}{{{title}}} \\"]
            for row in problem.summary()[columns].to_dict("records"):
                lines.append(" & ".join(_cell(value) for value in row.values()) + r" \\")
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])

    def write(self, directory: Path, *, figures: bool = True) -> list[Path]:
        """Write `summary.csv`, `pairs.csv`, `curves.csv`, `verdicts.txt`, `table.tex` and figures; their paths."""
        directory.mkdir(parents=True, exist_ok=True)
        written = []
        for name, frame in (("summary", self.summary()), ("pairs", self.pairs()), ("curves", self.curves())):
            written.append(directory / f"{name}.csv")
            frame.to_csv(written[-1], index=False)
        for name, text in (
            ("verdicts.txt", "\n".join([*self.notes, *self.verdicts(), ""])),
            ("table.tex", self.latex()),
        ):
            written.append(directory / name)
            written[-1].write_text(text, encoding="utf-8")
        return written + (self.plot(directory) if figures else [])

    def plot(self, directory: Path) -> list[Path]:
        """Draw the study's figures into `directory`; their paths."""
        from evonas.plots.study import draw

        return draw(self, directory)


def _cell(value: object) -> str:
    if isinstance(value, str):
        return value.replace("_", r"\_")
    number = float(value)  # type: ignore[arg-type]
    if not math.isfinite(number):
        return "--"
    return f"{number:.3g}" if abs(number) >= 10 or number == 0 else f"{number:.3f}"
