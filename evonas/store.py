"""One SQLite file a run: its configuration and every evaluation, in the order in which it was told.

Each evaluation is one transaction, committed before anybody learns of it, so a run that is killed at any
instant holds exactly the evaluations that were told. Writers hold a lock on the directory; readers need none.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout

from evonas.errors import RunError
from evonas.evaluate import Evaluation
from evonas.problem.base import Estimate

__all__ = ["DATABASE", "Store", "transaction"]

DATABASE = "run.sqlite"
_PARTIAL = "run.sqlite.new"
_LOCK = "run.lock"
_APPLICATION = 0x65764E41  # "evNA", so that another program's database is recognised
_VERSION = 2
_SCHEMA = """
CREATE TABLE config (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE evaluation (
    number INTEGER PRIMARY KEY,
    genome TEXT NOT NULL,
    "values" TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('ok', 'failed', 'infeasible', 'stopped')),
    seconds REAL NOT NULL,
    error TEXT NOT NULL
) STRICT;
CREATE TABLE test (
    number INTEGER NOT NULL REFERENCES evaluation (number),
    objective TEXT NOT NULL,
    value REAL NOT NULL, low REAL NOT NULL, high REAL NOT NULL,
    PRIMARY KEY (number, objective)
) STRICT;
"""


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection, path: Path | str) -> Iterator[None]:
    """What is executed inside is committed whole, or not at all.

    Raises:
        RunError: the database at `path` cannot be written.
    """
    try:
        with connection:
            yield
    except sqlite3.OperationalError as error:
        raise RunError(f"{path} cannot be written: {error}; what it holds is kept: mend that, and continue") from None


class Store:
    """The record of one run. Made with `create`, `open` or `memory`; close it, or use it in a `with`.

    Args:
        connection: an open database with the schema.
        directory: where the run lives; None in memory.
        lock: held while the store is open for writing.
    """

    def __init__(self, connection: sqlite3.Connection, directory: Path | None, lock: FileLock | None) -> None:
        self._connection = connection
        self.directory = directory
        self._lock = lock
        self._logging = False

    @classmethod
    def memory(cls, config: Mapping[str, Any]) -> Self:
        """A store that lives as long as the process."""
        connection = sqlite3.connect(":memory:")
        _initialise(connection, config)
        return cls(connection, None, None)

    @classmethod
    def create(cls, directory: Path, config: Mapping[str, Any]) -> Self:
        """A new run in `directory`, which may exist but must not hold anything.

        Raises:
            RunError: the directory holds something, or cannot be written.
        """
        try:
            _require_empty(directory)
            directory.mkdir(parents=True, exist_ok=True)
            lock = _locked(directory)
            partial = directory / _PARTIAL
            partial.unlink(missing_ok=True)
            connection = sqlite3.connect(partial)
            _initialise(connection, config)
            connection.close()
            partial.rename(directory / DATABASE)  # a kill before this leaves no run, after it a whole one
        except RunError:
            raise
        except (OSError, sqlite3.Error) as error:
            reason = getattr(error, "strerror", None) or error
            raise RunError(
                f"output directory {directory} cannot be written: {reason}; give another with --out"
            ) from None
        return cls(_opened(directory / DATABASE, writing=True), directory, lock)

    @classmethod
    def open(cls, directory: Path, *, writing: bool = False) -> Self:
        """The run in `directory`.

        Raises:
            RunError: there is none, it is damaged, of a newer evonas, or (when writing) in use.
        """
        path = directory / DATABASE
        if not path.is_file():
            raise RunError(f"{directory} is no run directory: it holds no {DATABASE}; start one with `evonas search`")
        lock = _locked(directory) if writing else None
        try:
            return cls(_opened(path, writing=writing), directory, lock)
        except BaseException:
            if lock is not None:
                lock.release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database and let go of the directory; a run that was written is one file again."""
        if self._logging:
            with contextlib.suppress(sqlite3.Error):  # somebody is reading: the journal stays
                self._connection.execute("PRAGMA journal_mode = DELETE")
        self._connection.close()
        if self._lock is not None:
            self._lock.release()

    def discard(self) -> None:
        """Close, and remove the files of a run in which nothing was evaluated."""
        self.close()
        if self.directory is not None:
            for name in (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", _LOCK):
                (self.directory / name).unlink(missing_ok=True)
            if not any(self.directory.iterdir()):
                self.directory.rmdir()

    def _transaction(self) -> contextlib.AbstractContextManager[None]:
        return transaction(self._connection, "memory" if self.directory is None else self.directory / DATABASE)

    @property
    def config(self) -> dict[str, Any]:
        """What the run was started with."""
        rows = self._connection.execute("SELECT key, value FROM config ORDER BY rowid")
        try:
            return {key: json.loads(value) for key, value in rows}
        except ValueError:
            raise self.damaged("its configuration cannot be read") from None

    def update_config(self, key: str, value: Any) -> None:
        """Change one entry of the configuration."""
        with self._transaction():
            self._connection.execute(
                "INSERT INTO config VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                (key, json.dumps(value)),
            )

    def append(self, evaluations: Iterable[Evaluation]) -> None:
        """Add evaluations in one transaction; on return they survive a kill."""
        rows = [
            (e.number, json.dumps(e.genome), json.dumps(dict(e.values)), e.status, e.seconds, e.error)
            for e in evaluations
        ]
        with self._transaction():
            if not self._logging:
                # with a write-ahead log a commit need not wait for the disk, and survives a kill all the same
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.execute("PRAGMA synchronous = NORMAL")
                self._logging = True
            self._connection.executemany("INSERT INTO evaluation VALUES (?, ?, ?, ?, ?, ?)", rows)

    def evaluations(self) -> list[Evaluation]:
        """All evaluations, in order."""
        rows = self._connection.execute(
            'SELECT number, genome, "values", status, seconds, error FROM evaluation ORDER BY number'
        )
        try:
            return [
                Evaluation(number, tuple(json.loads(genome)), json.loads(values), status, seconds, error)
                for number, genome, values, status, seconds, error in rows
            ]
        except (ValueError, TypeError):
            raise self.damaged("an evaluation cannot be read") from None

    def damaged(self, what: str) -> RunError:
        """The error for a store that opens but does not hold what it should."""
        return RunError(f"{self.directory}/{DATABASE} is damaged: {what}; restore it from a copy, or start a new run")

    def set_tests(self, tests: Mapping[int, Mapping[str, Estimate]]) -> None:
        """Replace the scores on test data: evaluation number to objective to estimate."""
        rows = [
            (number, objective, estimate.value, estimate.low, estimate.high)
            for number, scores in tests.items()
            for objective, estimate in scores.items()
        ]
        with self._transaction():
            self._connection.execute("DELETE FROM test")
            self._connection.executemany("INSERT INTO test VALUES (?, ?, ?, ?, ?)", rows)

    def tests(self) -> dict[int, dict[str, Estimate]]:
        """Scores on test data: evaluation number to objective to estimate."""
        found: dict[int, dict[str, Estimate]] = {}
        for number, objective, value, low, high in self._connection.execute("SELECT * FROM test"):
            found.setdefault(number, {})[objective] = Estimate(value, low, high)
        return found


def _initialise(connection: sqlite3.Connection, config: Mapping[str, Any]) -> None:
    connection.executescript(_SCHEMA)
    connection.execute(f"PRAGMA application_id = {_APPLICATION}")
    connection.execute(f"PRAGMA user_version = {_VERSION}")
    connection.executemany("INSERT INTO config VALUES (?, ?)", [(k, json.dumps(v)) for k, v in config.items()])
    connection.commit()


def _require_empty(directory: Path) -> None:
    """Raise `RunError` unless `directory` is free for a new run."""
    if not directory.exists():
        return
    if not directory.is_dir():
        raise RunError(f"output directory {directory} is a file; give another with --out")
    if (directory / DATABASE).exists():
        raise RunError(
            f"output directory {directory} holds a run already; continue it with `evonas resume {directory}`, "
            "or give another with --out"
        )
    if any(entry.name not in (_LOCK, _PARTIAL) for entry in directory.iterdir()):
        raise RunError(f"output directory {directory} exists and is not empty; give another with --out")


def _locked(directory: Path) -> FileLock:
    lock = FileLock(directory / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RunError(
            f"{directory} is in use by another evonas process; wait for it to end, or give another directory"
        ) from None
    except OSError as error:
        raise RunError(f"{directory} cannot be written: {error.strerror or error}") from None
    return lock


def _opened(path: Path, *, writing: bool) -> sqlite3.Connection:
    damaged = RunError(f"{path} is damaged or is no evonas run; restore it from a copy, or start a new run")
    try:
        connection = (
            sqlite3.connect(path) if writing else sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        )
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if application != _APPLICATION:
            raise damaged
        if version > _VERSION:
            raise RunError(
                f"{path} was written by a newer evonas (format {version}, this one reads up to {_VERSION}); "
                "upgrade evonas"
            )
        if connection.execute("PRAGMA quick_check").fetchone()[0] != "ok":
            raise damaged
        connection.execute("SELECT number FROM evaluation LIMIT 1").fetchall()
        return connection
    except sqlite3.Error:
        raise damaged from None
