"""The commands about samplers: `compare` and `table`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evonas.cli.commands import AtLeast, AtMost, ProblemName, app
from evonas.errors import InvalidArgument

if TYPE_CHECKING:
    from evonas.study import Study

__all__ = ["compare", "table"]

_COLUMNS = (
    *("hypervolume", "to 80%", "to 90%", "to 95%", "to 98%", "to 99%", "area", "igd+", "epsilon"),
    *("s/suggestion", "s/suggestion from 500"),
)


@app.command()
def compare(
    problems: Annotated[list[str], typer.Argument(metavar="PROBLEM...", help="Names, tables, or FILE.py:VARIABLE.")],
    samplers: Annotated[str, typer.Option(metavar="A,B,...", help="Samplers, separated by commas.")] = (
        "nsga2,random,tpe,sa-nsga2"
    ),
    seeds: Annotated[int, typer.Option(help="Runs of every sampler; the same seeds for all.")] = 30,
    budget: Annotated[int, typer.Option(help="Distinct evaluations of every run.")] = 200,
    objectives: Annotated[str | None, typer.Option(metavar="A,B,...", help="The problems' defaults otherwise.")] = None,
    at_most: AtMost = [],  # noqa: B006
    at_least: AtLeast = [],  # noqa: B006
    start: Annotated[int, typer.Option(help="Every sampler begins with the same so many genomes; 0: its own.")] = 0,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="results/compare-<problems> otherwise; continued if it exists.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; all cores otherwise.")] = None,
    figures: Annotated[bool, typer.Option(help="Draw the figures at the end.")] = True,
) -> None:
    """Compare samplers on problems: how good a front after how many evaluations, and whether that is noise.

    Example: evonas compare digits-ptq --samplers nsga2,random,tpe,sa-nsga2 --seeds 30 --budget 200
    """
    from evonas.progress import counting
    from evonas.study import compare as run

    directory = out or Path("results") / ("compare-" + "-".join(_file_name(problem) for problem in problems))
    with counting("comparing") as told:
        study = run(
            problems,
            _names(samplers),
            seeds=seeds,
            budget=budget,
            objectives=None if objectives is None else _names(objectives),
            at_most=_limits(at_most),
            at_least=_limits(at_least),
            start=start,
            out=directory,
            workers=workers,
            progress=told,
        )
    study.write(directory, figures=figures)
    _print_study(study)
    print(
        f"saved in {directory}: tables as CSV and LaTeX, figures; the same command with more seeds or samplers goes on"
    )


@app.command()
def table(
    problem: ProblemName,
    out: Annotated[Path, typer.Option(metavar="FILE", help="To write: .csv, .parquet or .npz.")],
    limit: Annotated[int | None, typer.Option(help="At most so many genomes; choices are left out evenly.")] = None,
) -> None:
    """Enumerate a problem into a table, which is then a problem with instant evaluation and a known front.

    Example: evonas table digits-ptq --out digits-ptq.parquet
    """
    from evonas.progress import counting
    from evonas.study import table as enumerate_problem

    with counting("evaluating") as told:
        made = enumerate_problem(problem, out, limit=limit, progress=told)
    print(f"{out}: {made.space.summary}; search it with `evonas search {out}`")


def _print_study(study: Study) -> None:
    from evonas.report import print_table

    for note in study.notes:
        print(note)
    for result in study.problems:
        count = f"{len(result.seeds)} seed{'s' * (len(result.seeds) != 1)}"
        print(f"\n{result.label}: medians over {count}, {result.budget} evaluations; front: {result.reference.origin}")
        frame = result.summary().dropna(axis=1, how="all")  # such as seconds from 500 evaluations on, where none were
        header = ["sampler", *(name for name in _COLUMNS if name in frame)]
        rows = [[_cell(row[name]) for name in header] for row in frame.to_dict("records")]
        print_table([*header[1:], header[0]], [[*row[1:], row[0]] for row in rows], sys.stdout)
    print()
    for sentence in study.verdicts():
        print(sentence)


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    if value == float("inf"):
        return "missed"
    return "-" if value != value else f"{value:.4g}"


def _names(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in Path(name).stem)


def _limits(texts: list[str]) -> dict[str, float | str]:
    found: dict[str, float | str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise InvalidArgument(f"constraint `{text}` does not parse; expected NAME=VALUE, such as size=2KiB")
        if name.strip() in found:
            raise InvalidArgument(f"the limit on {name.strip()} is given twice; give one")
        found[name.strip()] = value
    return found
