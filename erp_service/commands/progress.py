"""Progress bars of the commands, and what is shown while a job of a service runs."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskProgressColumn, TextColumn
from rich.text import Text

from erp_service.client import Job
from erp_service.commands.terminal import say

_PLAIN_SECONDS = 2.0  # between two lines of progress if there is no terminal


class TimeColumn(ProgressColumn):
    """How long it will take while it runs, and how long it took when it is done: `0:00:00` says neither."""

    def render(self, task: Task) -> Text:
        """Rich calls this for each line of the display."""
        if task.finished_time is not None:
            return Text(f"{task.finished_time:.1f} s")
        return Text("" if task.time_remaining is None else f"{task.time_remaining:.0f} s left")


class Display(NamedTuple):
    job: Callable[[Job], object]
    bytes: Callable[[int, int], object]


@contextlib.contextmanager
def progress_display(transfer: str = "downloading") -> Iterator[Display]:
    """A progress bar on a terminal, otherwise a line every two seconds. `transfer` is what is done with bytes."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _plain_display(transfer)
        return
    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[text]}"),
        TimeColumn(),
    )
    with Progress(*columns, console=console) as bar:
        export = bar.add_task("waiting", total=None, text="")
        download = bar.add_task(transfer, total=None, text="", visible=False)

        def job(job: Job) -> None:
            percent = job["progress"]["percent"]
            total = None if percent is None else 100
            text = _progress_text(job)
            bar.update(export, description=job["status"], completed=percent or 0, total=total, text=text)

        def bytes_(done: int, total: int) -> None:
            text = f"{decimal(done)} of {decimal(total)}"
            bar.update(download, completed=done, total=total, text=text, visible=True)

        yield Display(job, bytes_)


def _plain_display(transfer: str) -> Display:
    previous: dict[str, Any] = {"at": 0.0, "state": None}

    def show(state: str, text: str, *, last: bool) -> None:
        if last or state != previous["state"] or time.monotonic() - previous["at"] > _PLAIN_SECONDS:
            previous.update(at=time.monotonic(), state=state)
            say(text)

    def job(job: Job) -> None:
        percent = job["progress"]["percent"]
        share = "" if percent is None else f" {percent:.1f} %"
        show(job["status"], f"{job['status']}{share} {_progress_text(job)}".rstrip(), last=False)

    def bytes_(done: int, total: int) -> None:
        show(transfer, f"{transfer} {decimal(done)} of {decimal(total)}", last=done == total)

    return Display(job, bytes_)


def _progress_text(job: Job) -> str:
    progress = job["progress"]
    if not progress["rows_done"]:
        return ""
    about = "about " if progress["rows_total_is_estimate"] else ""
    of = f" of {about}{progress['rows_total']:,}" if progress["rows_total"] is not None else ""
    left = f", {progress['eta_seconds']:,} s left" if progress["eta_seconds"] else ""
    return f"{progress['rows_done']:,}{of} rows, {decimal(progress['bytes'])}{left}"
