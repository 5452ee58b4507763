"""How far a search is: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

from evonas.errors import unknown_name
from evonas.pareto import Archive

__all__ = ["Progress", "counting"]

_LINES = 10  # plain lines over a whole run
_PATIENCE = 2.0  # seconds of training between two plain lines
_REFRESH = 0.25  # seconds between two updates of the bar


class Progress:
    """Shows evaluations, rate, time left, size of the front and its hypervolume on stderr.

    Args:
        total: evaluations in the budget.
        shown: `bar`, `lines` or `none`; when None, a bar if stderr is a terminal and nothing otherwise.
    """

    def __init__(self, total: int, shown: str | None = None) -> None:
        if shown not in (None, "bar", "lines", "none"):
            raise unknown_name("progress", str(shown), ("bar", "lines", "none"))
        self.total = total
        self.shown = shown or ("bar" if sys.stderr.isatty() else "none")
        self._bar: Any = None
        self._task: Any = None
        self._start = time.perf_counter()
        self._first: int | None = None
        self._last = 0.0
        self._line = 0
        self._preparing: float | None = None

    def __enter__(self) -> Self:
        if self.shown == "bar":
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                TextColumn("front {task.fields[front]}  hypervolume {task.fields[hypervolume]}"),
                console=Console(stderr=True),
            )
            self._bar.start()
            self._task = self._bar.add_task("searching", total=self.total, rate="", front="0", hypervolume="-")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, archive: Archive) -> None:
        """Tell that one more evaluation is in."""
        if self.shown == "none":
            return
        done, now = archive.spent, time.perf_counter()
        if self._first is None:
            self._first = done - 1
        rate = (done - self._first) / max(now - self._start, 1e-9)
        last = done >= self.total
        if self.shown == "bar" and (last or now - self._last >= _REFRESH):
            self._last = now
            self._bar.update(
                self._task,
                description="searching",
                completed=done,
                rate=f"{rate:.0f}/s" if rate >= 10 else f"{rate:.1f}/s",
                front=str(len(archive.front)),
                hypervolume=f"{archive.hypervolume():.4f}",
            )
        elif self.shown == "lines" and (last or done * _LINES // self.total > self._line):
            self._line = done * _LINES // self.total
            left = (self.total - done) / max(rate, 1e-9)
            print(
                f"{done}/{self.total} evaluations, {rate:.1f}/s, {left:.0f} s left, "
                f"front {len(archive.front)}, hypervolume {archive.hypervolume():.4f}",
                file=sys.stderr,
                flush=True,
            )

    def preparing(self, done: int, total: int) -> None:
        """Tell how far the training is that comes before evaluations."""
        if self.shown == "none":
            return
        now = time.perf_counter()
        if done >= total:
            self._preparing = None
        elif self._preparing is None:
            self._preparing = now
        elif self.shown == "bar" and now - self._last >= _REFRESH:
            self._last = now
            self._bar.update(self._task, description=f"training {done * 100 // total} %")
        elif self.shown == "lines" and now - self._preparing >= _PATIENCE:
            self._preparing = now
            print(f"training: {done * 100 // total} %", file=sys.stderr, flush=True)


@contextlib.contextmanager
def counting(title: str) -> Iterator[Callable[[int, int], None]]:
    """Yields what to call with (done, total): a bar if stderr is a terminal, a plain line every tenth elsewhere."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Bar(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(title, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
        return
    shown = 0

    def told(done: int, total: int) -> None:
        nonlocal shown
        if total and done * _LINES // total > shown:
            shown = done * _LINES // total
            print(f"{title}: {done:,}/{total:,}", file=sys.stderr, flush=True)

    yield told
