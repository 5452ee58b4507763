"""The commands. Heavy imports happen inside them, so that `--help` is quick."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evonas.cli.terminal import (
    finish,
    graceful,
    introduce,
    print_details,
    print_result,
    progress_kind,
    results_only,
)
from evonas.errors import InvalidArgument
from evonas.samplers import SAMPLERS

if TYPE_CHECKING:
    from evonas.objective import Constraint
    from evonas.problem import Problem

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Find the Pareto front of a PyTorch model: quantization widths and channel multipliers against "
    "accuracy, latency, size and FLOPs.",
)

ProblemName = Annotated[
    str, typer.Argument(metavar="PROBLEM", help="A name from `evonas problems`, or FILE.py:VARIABLE.")
]
RunDirectory = Annotated[Path, typer.Argument(metavar="DIR", help="The directory of a run.")]
Options = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="An option of the problem; repeatable.")]
Latency = Annotated[
    str | None,
    typer.Option(
        metavar="SOURCE", help="roofline:DEVICE, table:FILE or measured[:onnxruntime][:BATCH] (same as --set latency=)."
    ),
]
Device = Annotated[str | None, typer.Option(metavar="NAME|FILE.toml", help="Short for --latency roofline:NAME.")]
Data = Annotated[str | None, typer.Option(metavar="FILE", help="The data of the problem (same as --set data=).")]
Seeds = Annotated[int | None, typer.Option(help="Trainings a candidate; mean and spread (same as --set seeds=).")]
AtMost = Annotated[
    list[str], typer.Option("--max", metavar="NAME=VALUE", help="Upper limit, such as size=2KiB; repeatable.")
]
AtLeast = Annotated[
    list[str], typer.Option("--min", metavar="NAME=VALUE", help="Lower limit, such as accuracy=0.9; repeatable.")
]
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout and nothing else.")]
Figures = Annotated[bool, typer.Option(help="Draw the figures at the end.")]


@app.command()
def search(
    context: typer.Context,
    problem: Annotated[
        str | None,
        typer.Argument(metavar="PROBLEM", help="A name from `evonas problems`, or FILE.py:VARIABLE."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE.toml", help="A run file; what the command line says goes over it.")
    ] = None,
    sampler: Annotated[str, typer.Option(help=f"{', '.join(SAMPLERS)}, or optuna:<Sampler>.")] = "nsga2",
    budget: Annotated[int, typer.Option(help="Distinct evaluations to spend.")] = 400,
    seed: Annotated[int, typer.Option(help="Of the sampler; the same seed gives the same run.")] = 0,
    objectives: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help="Names, separated by commas; the problem's defaults otherwise."),
    ] = None,
    at_most: AtMost = [],  # noqa: B006
    at_least: AtLeast = [],  # noqa: B006
    latency: Latency = None,
    device: Device = None,
    data: Data = None,
    seeds: Seeds = None,
    options: Options = [],  # noqa: B006
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Run directory; results/<problem>-<sampler>-s<seed> otherwise.")
    ] = None,
    racing: Annotated[
        bool, typer.Option("--racing", help="Stop validating a candidate once it cannot reach the front (99 %).")
    ] = False,
    figures: Figures = True,
    json: Json = False,
) -> int:
    """Search a problem for its Pareto front.

    Example: evonas search digits --budget 200 --max size=2KiB --min accuracy=0.9
    """
    from evonas.cli.run_file import best_trials, given
    from evonas.loop import search as run
    from evonas.samplers import sampler_name

    values = {"sampler": sampler, "budget": budget, "seed": seed, "objectives": objectives}
    values |= {"out": out, "figures": figures, "racing": racing}
    asked = given(context, config, problem, values)
    with results_only(json):
        found = asked.load(_texts(options, latency=_source(latency, device), data=_from_anywhere(data), seeds=seeds))
    name = sampler_name(asked.sampler)
    directory = asked.out or Path("results") / f"{_file_name(found.name)}-{name}-s{asked.seed}"
    about = f"{name}, seed {asked.seed}, {asked.budget} evaluations"
    with graceful(directory, json) as interrupted:
        result = run(
            found,
            sampler=name,
            budget=asked.budget,
            seed=asked.seed,
            objectives=asked.objectives,
            at_most={**asked.file.at_most, **_limits(found, at_most, at_least=False)},
            at_least={**asked.file.at_least, **_limits(found, at_least, at_least=True)},
            out=directory,
            racing=asked.racing,
            figures=asked.figures,
            progress=progress_kind(json),
            started=None if json else lambda task: introduce(task, about, asked.file.notes),
            stop=asked.stop(interrupted),
        )
        pressed = interrupted()
    if result.ended == "interrupted" and not pressed:
        print(f"stopped after {asked.file.timeout:g} s, the timeout of the run file", file=sys.stderr)
    code = finish(result, json)
    if asked.file.metrics and not json:
        best_trials(result, asked.file)
    return 0 if result.ended == "interrupted" and not pressed else code


@app.command()
def resume(
    directory: RunDirectory,
    budget: Annotated[int | None, typer.Option(help="A larger budget than the run's own.")] = None,
    figures: Figures = True,
    json: Json = False,
) -> int:
    """Continue a run that was stopped or killed, or give it a larger budget.

    Example: evonas resume results/digits-nsga2-s0 --budget 800
    """
    from evonas.loop import resume as run

    with graceful(directory, json) as interrupted:
        result = run(
            directory,
            budget=budget,
            figures=figures,
            progress=progress_kind(json),
            started=None if json else lambda task: introduce(task, f"continuing {directory}"),
            stop=interrupted,
        )
    return finish(result, json)


@app.command()
def show(
    directory: RunDirectory,
    sort: Annotated[str | None, typer.Option(metavar="NAME", help="Objective to sort by, best first.")] = None,
    at_most: AtMost = [],  # noqa: B006
    at_least: AtLeast = [],  # noqa: B006
    pick: Annotated[int | None, typer.Option(metavar="N", help="One point of the front, layer by layer.")] = None,
    json: Json = False,
) -> None:
    """Show the front of a run: sorted, filtered, or one point of it in detail.

    Example: evonas show results/digits-nsga2-s0 --sort size --min accuracy=0.9
    """
    from evonas.loop import load_result

    with results_only(json):
        result = load_result(directory)
    indices = result.within(
        _constraints(result.problem, at_most, at_least=False) + _constraints(result.problem, at_least, at_least=True)
    )
    if sort is not None:
        objective = result.problem.objective(sort)
        front = result.front_evaluations
        indices = sorted(indices, key=lambda i: objective.sign * front[i].values[sort])
    if pick is None:
        print_result(result, indices, json)
    else:
        result.pick(pick)  # complains about a point that is not there
        print_result(result, [pick], json)
        if not json:
            print_details(result, pick)


@app.command()
def plot(
    directory: RunDirectory,
    pick: Annotated[int | None, typer.Option(metavar="N", help="The point whose network is drawn.")] = None,
) -> None:
    """Draw the figures of a run into its directory, as PNG and SVG.

    Example: evonas plot results/digits-nsga2-s0
    """
    from evonas import plots
    from evonas.loop import load_result

    result = load_result(directory)
    drawn = plots.figures(result)
    if pick is not None:
        drawn["network"] = plots.network(result, pick)
    plots.save(drawn, directory)
    for name in drawn:
        print(f"{directory / name}.png and .svg")


@app.command()
def problems() -> None:
    """List the problems that ship with evonas, with their options.

    Example: evonas problems
    """
    import inspect

    from evonas.problems import PROBLEMS, factory
    from evonas.report import print_table

    rows = []
    for name in PROBLEMS:
        made = factory(name)
        options = " ".join(f"{key}={p.default}" for key, p in inspect.signature(made).parameters.items())
        rows.append([name, f"{(inspect.getdoc(made) or '').splitlines()[0]} {f'--set {options}' if options else ''}"])
    print_table(["problem", "what is searched, and its options"], rows, sys.stdout)


@app.command()
def profile(
    problem: ProblemName,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The latency table to write, for --latency table:FILE.")],
    batch: Annotated[int, typer.Option(help="Samples a call.")] = 1,
    rounds: Annotated[int, typer.Option(help="Interleaved measurements of each point.")] = 30,
    points: Annotated[int, typer.Option(help="Channel counts on each axis, at most; all of the space if fewer.")] = 8,
    threads: Annotated[int, typer.Option(help="Of torch; written into the file.")] = 1,
    clock: Annotated[str, typer.Option(help="wall, or cpu: only what one thread runs; for a busy machine.")] = "wall",
    options: Options = [],  # noqa: B006
) -> None:
    """Measure every distinct layer shape of a network on this machine, over a grid of channel counts.

    Example: evonas profile digits --out cpu.json
    """
    from evonas.problem.network import NetworkProblem
    from evonas.problems import load
    from evonas.profile import profile as measure
    from evonas.progress import counting

    found = load(problem, _options(problem, options))
    if not isinstance(found, NetworkProblem):
        raise InvalidArgument(f"problem `{found.name}` is no network, so that it has no layers to profile")
    if not out.parent.is_dir():
        raise InvalidArgument(f"`{out}` cannot be written: its folder does not exist; choose another --out")
    if clock == "cpu" and threads > 1:
        raise InvalidArgument("--clock cpu sees one thread; use it with --threads 1")
    with counting("rounds") as told:
        count = measure(found, out, batch=batch, rounds=rounds, points=points, threads=threads, clock=clock, told=told)
    print(f"{count} points, batch {batch}, {threads} thread(s), {rounds} rounds, in {out}")
    print(f"use it with: evonas search {problem} --latency table:{out}")


@app.command()
def space(
    problem: ProblemName,
    latency: Latency = None,
    device: Device = None,
    options: Options = [],  # noqa: B006
) -> None:
    """Show what would be searched: genes, choices, chains, objectives, and the number of genomes.

    Example: evonas space digits
    """
    from evonas.problems import load
    from evonas.report import print_table

    found = load(problem, _options(problem, options, latency=_source(latency, device)))
    print(f"{found.name}: {found.space.summary}")
    print_table(["gene", "choices"], [[gene.name, " < ".join(gene.labels)] for gene in found.space.genes], sys.stdout)
    if found.chains:
        rows = [
            [
                chain.name,
                str(chain.channels),
                f"{chain.step}" if chain.granularity == "channels" else f"{chain.step} ({chain.granularity})",
                ", ".join(f"{layer} {side}" for layer, side in chain.members),
            ]
            for chain in found.chains
        ]
        print_table(["chain", "channels", "step", "layers that must agree"], rows, sys.stdout)
    if found.frozen:
        rows = [[one.layer, one.side, str(one.channels or "-"), one.reason] for one in found.frozen]
        print_table(["frozen", "side", "channels", "why"], rows, sys.stdout)
    network = getattr(getattr(found, "plan_space", None), "network", None)
    if network is not None and network.unasked:
        header = ["type", "layers that have formats when a rule asks for their type"]
        print_table(header, [[kind, ", ".join(names)] for kind, names in network.unasked.items()], sys.stdout)
    if network is not None and network.barred:
        print_table(["stays in float32", "why"], [list(row) for row in network.barred.items()], sys.stdout)
    rows = [
        [o.name, o.unit, "max" if o.maximise else "min", "exact" if o.exact else "measured", o.note]
        for o in found.objectives
    ]
    print_table(["objective", "unit", "goal", "kind", "definition"], rows, sys.stdout)


def _options(problem: str, texts: Sequence[str], **named: str | int | None) -> dict[str, Any]:
    """Options of the problem: `KEY=VALUE` as given, and those that have a flag of their own."""
    from evonas.problems import parse_options

    return parse_options(problem, _texts(texts, **named))


def _texts(texts: Sequence[str], **named: str | int | None) -> list[str]:
    return [*texts, *(f"{key}={value}" for key, value in named.items() if value is not None)]


def _source(latency: str | None, device: str | None) -> str | None:
    """Where latency comes from; --device is the short form."""
    if latency is not None and device is not None:
        raise InvalidArgument("--device is short for --latency roofline:NAME; give one of the two")
    return _from_anywhere(latency) if device is None else _from_anywhere(f"roofline:{device}")


def _from_anywhere(source: str | None) -> str | None:
    """`source` with the path of a file made absolute, so that a run can be opened from any directory."""
    kind, colon, path = (source or "").rpartition(":")
    return f"{kind}{colon}{Path(path).resolve()}" if Path(path).is_file() else source


def _constraints(problem: Problem, texts: Sequence[str], *, at_least: bool) -> list[Constraint]:
    from evonas.objective import Constraint

    return [Constraint.parse(text, problem.objectives, at_least=at_least) for text in texts]


def _limits(problem: Problem, texts: Sequence[str], *, at_least: bool) -> dict[str, float]:
    found: dict[str, float] = {}
    for constraint in _constraints(problem, texts, at_least=at_least):
        name = constraint.objective.name
        if name in found:
            raise InvalidArgument(f"{'--min' if at_least else '--max'} {name} is given twice; give one limit")
        found[name] = constraint.limit
    return found


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in name)
