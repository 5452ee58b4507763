"""One SQLite file a study: its configuration, its runs, and one row for every evaluation.

Several processes may append at once. A run that was cut short holds the evaluations that were made, and goes on by
replay; a study may be extended by samplers, seeds, problems and budget.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from evonas.errors import RunError
from evonas.evaluate import Evaluation
from evonas.store import transaction

__all__ = ["DATABASE", "Row", "Run", "StudyStore"]

DATABASE = "study.sqlite"
_APPLICATION = 0x65764E53  # "evNS"
_VERSION = 1
_WAIT = 60.0  # seconds that a writer waits for another
_SCHEMA = """
CREATE TABLE config (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE run (
    id INTEGER PRIMARY KEY,
    problem TEXT NOT NULL, sampler TEXT NOT NULL, seed INTEGER NOT NULL,
    charge REAL NOT NULL DEFAULT 0.0,
    budget INTEGER NOT NULL DEFAULT 0,
    UNIQUE (problem, sampler, seed)
) STRICT;
CREATE TABLE evaluation (
    run INTEGER NOT NULL REFERENCES run (id),
    number INTEGER NOT NULL,
    genome TEXT NOT NULL,
    "values" TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('ok', 'failed', 'infeasible')),
    error TEXT NOT NULL,
    seconds REAL NOT NULL,
    suggestion_seconds REAL NOT NULL,
    PRIMARY KEY (run, number)
) STRICT, WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Run:
    """One sampler on one problem from one seed. `budget` is the largest one that it was brought to the end of."""

    id: int
    problem: str
    sampler: str
    seed: int
    charge: float
    budget: int


@dataclass(frozen=True)
class Row:
    """An evaluation, and the seconds that its sampler took to suggest it and to learn of it."""

    evaluation: Evaluation
    suggestion_seconds: float


class StudyStore:
    """The record of a study. Made with `create` or `open`; use it in a `with`.

    Args:
        connection: an open database with the schema.
        path: of the database.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection, self._path = connection, path

    @classmethod
    def create(cls, directory: Path, config: Mapping[str, Any]) -> Self:
        """A new study in `directory`.

        Raises:
            RunError: the directory cannot be written, or holds something that is no study.
        """
        try:
            directory.mkdir(parents=True, exist_ok=True)
            if any(directory.iterdir()):
                raise RunError(f"output directory {directory} is not empty and holds no study; give another")
            partial = directory / f"{DATABASE}.new"
            connection = sqlite3.connect(partial)
            connection.executescript(_SCHEMA)
            connection.execute(f"PRAGMA application_id = {_APPLICATION}")
            connection.execute(f"PRAGMA user_version = {_VERSION}")
            connection.executemany("INSERT INTO config VALUES (?, ?)", [(k, json.dumps(v)) for k, v in config.items()])
            connection.commit()
            connection.close()
            partial.rename(directory / DATABASE)
        except RunError:
            raise
        except (OSError, sqlite3.Error) as error:
            reason = getattr(error, "strerror", None) or error
            raise RunError(f"output directory {directory} cannot be written: {reason}; give another") from None
        return cls.open(directory)

    @classmethod
    def open(cls, directory: Path) -> Self:
        """The study in `directory`.

        Raises:
            RunError: there is none, or it is damaged or of a newer evonas.
        """
        path = directory / DATABASE
        if not path.is_file():
            raise RunError(f"{directory} holds no study: there is no {DATABASE}; start one with `evonas compare`")
        try:
            connection = sqlite3.connect(path, timeout=_WAIT)
            application = connection.execute("PRAGMA application_id").fetchone()[0]
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
        except sqlite3.Error:
            raise RunError(f"{path} is damaged; restore it from a copy, or start a new study") from None
        if application != _APPLICATION:
            raise RunError(f"{path} is no study of evonas; give another directory")
        if version > _VERSION:
            raise RunError(
                f"{path} was written by a newer evonas (format {version}, this one reads {_VERSION}); upgrade"
            )
        return cls(connection, path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    @property
    def config(self) -> dict[str, Any]:
        """What the study is of."""
        return {key: json.loads(value) for key, value in self._connection.execute("SELECT key, value FROM config")}

    def update_config(self, key: str, value: Any) -> None:
        """Change one entry of the configuration."""
        with transaction(self._connection, self._path):
            self._connection.execute(
                "INSERT INTO config VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                (key, json.dumps(value)),
            )

    def run(self, problem: str, sampler: str, seed: int) -> Run:
        """The run of that name, made if there is none yet."""
        with transaction(self._connection, self._path):
            self._connection.execute(
                "INSERT OR IGNORE INTO run (problem, sampler, seed) VALUES (?, ?, ?)", (problem, sampler, seed)
            )
        return next(run for run in self.runs(problem) if (run.sampler, run.seed) == (sampler, seed))

    def runs(self, problem: str) -> list[Run]:
        """All runs on a problem, by sampler in the order in which they came, then seed."""
        rows = self._connection.execute(
            "SELECT id, problem, sampler, seed, charge, budget FROM run WHERE problem = ? ORDER BY id", (problem,)
        )
        return [Run(*row) for row in rows]

    def finish(self, run: Run, charge: float, budget: int) -> None:
        """Record that `run` was brought to the end of `budget`, and what its sampler charged."""
        with transaction(self._connection, self._path):
            self._connection.execute(
                "UPDATE run SET charge = ?, budget = max(budget, ?) WHERE id = ?", (charge, budget, run.id)
            )

    def append(self, run: Run, rows: Sequence[Row]) -> None:
        """Add evaluations of `run` in one transaction."""
        values = [
            (run.id, e.number, json.dumps(e.genome), json.dumps(dict(e.values)), e.status, e.error, e.seconds, s)
            for e, s in ((row.evaluation, row.suggestion_seconds) for row in rows)
        ]
        with transaction(self._connection, self._path):
            self._connection.executemany("INSERT INTO evaluation VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)

    def rows(self, run: Run) -> list[Row]:
        """All evaluations of `run`, in order."""
        found = self._connection.execute(
            'SELECT number, genome, "values", status, seconds, error, suggestion_seconds FROM evaluation '
            "WHERE run = ? ORDER BY number",
            (run.id,),
        )
        return [
            Row(Evaluation(number, tuple(json.loads(genome)), json.loads(values), status, seconds, error), suggestion)
            for number, genome, values, status, seconds, error, suggestion in found
        ]

    def count(self) -> int:
        """Evaluations in the study."""
        return int(self._connection.execute("SELECT count(*) FROM evaluation").fetchone()[0])
