"""Problems that ship with evonas, one a file. Made by name with `load`."""

from __future__ import annotations

if __name__ != "evonas.problems":
    raise ImportError("import this package as `evonas.problems`; install evonas first (pip install -e .)")

import inspect
import shlex
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module, util
from pathlib import Path
from typing import Any

from evonas.errors import EvonasError, InvalidArgument, Unmeasured, unknown_name
from evonas.problem.base import Problem
from evonas.problem.table import SUFFIXES, TableProblem

__all__ = ["PROBLEMS", "factory", "load", "parse_options"]

# name -> (module, function that makes it); modules are imported when used
PROBLEMS: dict[str, tuple[str, str]] = {
    "digits": ("evonas.problems.digits", "digits"),
    "digits-ptq": ("evonas.problems.digits", "digits_ptq"),
    "mnist5k": ("evonas.problems.mnist5k", "mnist5k"),
    "jsc-tiny": ("evonas.problems.jsc", "jsc_tiny"),
    "jsc-toy": ("evonas.problems.jsc", "jsc_toy"),
    "jsc-s": ("evonas.problems.jsc", "jsc_s"),
    "jsc-lab": ("evonas.problems.jsc", "jsc_lab"),
    "synthetic-40": ("evonas.problems.synthetic", "synthetic"),
    "nasbench201-cifar10": ("evonas.problems.hpo_bench", "nasbench201_cifar10"),
    "nasbench201-cifar100": ("evonas.problems.hpo_bench", "nasbench201_cifar100"),
    "nasbench201-imagenet": ("evonas.problems.hpo_bench", "nasbench201_imagenet"),
    "hpolib-naval": ("evonas.problems.hpo_bench", "hpolib_naval"),
    "hpolib-parkinsons": ("evonas.problems.hpo_bench", "hpolib_parkinsons"),
    "hpolib-protein": ("evonas.problems.hpo_bench", "hpolib_protein"),
    "hpolib-slice": ("evonas.problems.hpo_bench", "hpolib_slice"),
}

_QUANTIZATION = {"calibration": "mse", "fold": False}  # options of every problem about a network, and their defaults
_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def factory(name: str) -> Callable[..., Problem]:
    """The function that makes the shipped problem `name`.

    Raises:
        UnknownName: there is none; the message lists those there are.
    """
    if name not in PROBLEMS:
        raise unknown_name("problem", name, PROBLEMS)
    module, function = PROBLEMS[name]
    made: Callable[..., Problem] = getattr(import_module(module), function)
    return made


def load(spec: str, options: Mapping[str, Any] | None = None) -> Problem:
    """A shipped problem by name, a table by its file (.csv, .parquet, .npz), or `path/to/file.py:variable`.

    The variable may be a `Problem`, or a function without arguments (or with `options`) that returns one.

    Raises:
        UnknownName: no such problem, or no such variable in the file.
        InvalidArgument: the file cannot be imported, or the options do not fit.
    """
    if Path(spec).suffix in SUFFIXES:
        table = TableProblem.read(spec, **(options or {}))
        table.spec, table.options = str(Path(spec).resolve()), dict(options or {})
        return table
    try:
        return _loaded(spec, dict(options or {}))
    except Unmeasured as error:
        raise error.of(_command(spec, options or {})) from None


def _command(spec: str, options: Mapping[str, Any]) -> str:
    """How the command line names a problem whose layers are to be profiled."""
    words = [f"{key}={value}" for key, value in options.items() if key not in ("latency", "genes", "channels")]
    return shlex.join([spec, *(word for text in words for word in ("--set", text))])


def _loaded(spec: str, options: dict[str, Any]) -> Problem:
    rules, channels = options.pop("genes", ()), options.pop("channels", True)
    quantization = {}
    if options.keys() & _QUANTIZATION.keys():
        quantization = {key: options.pop(key) for key in _quantization(spec) if key in options}
    made = _made(spec, options)
    if quantization:
        made = _quantized(made, quantization)
    if rules:
        made = _with_rules(made, rules, channels)
    return made


def _quantized(problem: Problem, options: Mapping[str, Any]) -> Problem:
    """A problem about a network that is quantized otherwise."""
    from evonas.problem.network import NetworkProblem

    if not isinstance(problem, NetworkProblem):
        words = " and ".join(f"`{key}`" for key in options)
        raise InvalidArgument(f"problem `{problem.name}` is no network, so that {words} say nothing about it")
    return problem.with_quantization(**options)


def _quantization(spec: str) -> dict[str, Any]:
    """The options that every problem about a network has, and their defaults, but for those that `spec` has itself."""
    parameters = _parameters(spec)
    return {key: default for key, default in _QUANTIZATION.items() if key not in parameters}


def _parameters(spec: str) -> Mapping[str, inspect.Parameter]:
    """What a problem's factory takes; nothing when a problem has no factory."""
    path, colon, variable = spec.rpartition(":")
    found = _from_file(Path(path), variable) if colon and path.endswith(".py") else factory(spec)
    return {} if isinstance(found, Problem) or not callable(found) else inspect.signature(found).parameters


def _with_rules(problem: Problem, rules: Sequence[Any], channels: bool) -> Problem:
    """A problem about a network with other genes of formats."""
    from evonas.problem.genes import Rule
    from evonas.problem.network import NetworkProblem

    if not isinstance(problem, NetworkProblem):
        raise InvalidArgument(f"problem `{problem.name}` is no network, so that `genes` say nothing about it")
    read = [rule if isinstance(rule, Rule) else Rule.read(rule, f"genes[{i}]") for i, rule in enumerate(rules)]
    return problem.with_rules(read, channels=channels)


def _made(spec: str, options: Mapping[str, Any]) -> Problem:
    path, colon, variable = spec.rpartition(":")
    found: Any = _from_file(Path(path), variable) if colon and path.endswith(".py") else factory(spec)
    if isinstance(found, Problem):
        if options:
            raise InvalidArgument(f"problem `{spec}` takes no options, got {', '.join(options)}")
        found.spec, found.options = _absolute(spec), {}
        return found
    if not callable(found):
        raise InvalidArgument(
            f"`{spec}` is a {type(found).__name__}; expected a Problem or a function that returns one"
        )
    try:
        inspect.signature(found).bind(**(options or {}))
    except TypeError as error:
        raise InvalidArgument(f"options of problem `{spec}` do not fit: {error}") from None
    problem = _called(spec, found, options or {})
    if not isinstance(problem, Problem):
        raise InvalidArgument(f"`{spec}` returned a {type(problem).__name__}; expected a Problem")
    problem.spec = _absolute(spec)
    if colon:  # a user's function may have called one of ours, which keeps other options
        problem.options = dict(options)
    return problem


def _called(spec: str, function: Callable[..., Any], options: Mapping[str, Any]) -> Any:
    """What the function returns; what it raises is its author's to mend, so that the line is named."""
    try:
        return function(**options)
    except EvonasError:
        raise
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(frame.filename).name}:{frame.lineno}"
        raise InvalidArgument(f"`{spec}` failed at {place}: {type(error).__name__}: {error}") from error


def _absolute(spec: str) -> str:
    """`spec` with the path of a user's file made absolute, so that a run can be continued from anywhere."""
    path, colon, variable = spec.rpartition(":")
    return f"{Path(path).resolve()}:{variable}" if colon else spec


def parse_options(spec: str, texts: Iterable[str]) -> dict[str, Any]:
    """Options of a problem as a person writes them, `key=value`, with the types of their defaults.

    Raises:
        UnknownName: the problem has no such option.
        InvalidArgument: no `=`, or a value of the wrong type.
    """
    options = dict(_split(text) for text in texts)
    if not options:
        return {}
    parameters = _parameters(spec)
    named = {key: p.default for key, p in parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    defaults = named | _quantization(spec)
    for key, text in options.items():
        if key not in defaults and len(named) < len(parameters):  # the factory takes any name, and says no type
            options[key] = _guessed(text)
            continue
        if key not in defaults:
            raise unknown_name(f"option of problem `{spec}`", key, defaults)
        default = defaults[key]
        try:
            options[key] = _typed(default, text)
        except ValueError:
            raise InvalidArgument(f"option `{key}` must be of type {type(default).__name__}, got `{text}`") from None
    return options


def _typed(default: Any, text: str) -> Any:
    """`text` as the type of `default`; text where that is no number."""
    if isinstance(default, bool):
        if text.lower() not in _BOOLEANS:
            raise ValueError
        return _BOOLEANS[text.lower()]
    return type(default)(text) if isinstance(default, int | float) else text


def _guessed(text: str) -> Any:
    """`text` as a number or a truth value where it reads as one."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return _BOOLEANS.get(text.lower(), text)


def _split(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise InvalidArgument(f"option `{text}` does not parse; expected KEY=VALUE")
    return key.strip(), value.strip()


def _from_file(path: Path, variable: str) -> Any:
    if not path.is_file():
        raise InvalidArgument(
            f"problem file `{path}` does not exist; expected FILE.py:VARIABLE or one of {', '.join(PROBLEMS)}"
        )
    specification = util.spec_from_file_location(f"evonas_user_{path.stem}", path)
    assert specification is not None
    assert specification.loader is not None
    module = util.module_from_spec(specification)
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)  # a file may import its neighbours
    try:
        specification.loader.exec_module(module)
    except EvonasError:
        raise
    except Exception as error:
        raise InvalidArgument(f"problem file `{path}` cannot be imported: {type(error).__name__}: {error}") from error
    if not hasattr(module, variable):
        names = [
            name
            for name, value in vars(module).items()
            if isinstance(value, Problem) or (inspect.isfunction(value) and value.__module__ == module.__name__)
        ]
        raise unknown_name(f"problem in {path}", variable, names)
    return getattr(module, variable)
