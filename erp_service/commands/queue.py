"""`erp queue`: shows the queue, on a terminal and for programs, and lets an operator retry and cancel jobs."""

import asyncio
import sys
from contextlib import suppress
from datetime import datetime
from typing import Any
from uuid import UUID

import click
import msgspec
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from erp_service.access.principals import command as command_of
from erp_service.commands.database import exit_on_error, open_database
from erp_service.commands.terminal import WholeSentences
from erp_service.operations import queue_overview
from erp_service.operations.jobs import service
from erp_service.operations.queue_overview import ExportNow, Overview
from erp_service.queue.inspection import JobNow, WorkerNow
from erp_service.settings import Settings, load

WATCH_SECONDS = 1.0

OPERATOR = "erp queue"
"""Whoever runs the command, in the audit log: they have access to the database, and are no user of the service."""

_CONNECTION = "erp queue"
_ANY_WIDTH = 10_000


class JobReference(click.ParamType[UUID | int]):
    """An export by its id, or a job by its number in the queue."""

    name = "job"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> UUID | int:
        try:
            return int(value) if str(value).isdecimal() else UUID(str(value))
        except ValueError:
            self.fail(f"{value!r} is neither the id of an export nor the number of a job", param, ctx)


@click.group("queue", cls=WholeSentences, invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")
@click.option("--watch", is_flag=True, help="Refresh every second, until Ctrl-C.")
@click.pass_context
def command(context: click.Context, *, as_json: bool, watch: bool) -> None:
    """Show the queue: its workers, and the jobs that run, wait, stall or failed.

    \b
    erp queue retry JOB     try again what failed
    erp queue cancel JOB    cancel what waits or runs

    JOB is the id of an export, or the number of a job. Uses ERP_DATABASE_URL.
    """
    if context.invoked_subcommand is not None:
        return
    with exit_on_error(), suppress(KeyboardInterrupt):
        settings = load()
        if watch:
            asyncio.run(_watch(settings))
        elif as_json:
            click.echo(msgspec.json.format(msgspec.json.encode(asyncio.run(_read_overview(settings)))))
        else:
            overview = asyncio.run(_read_overview(settings))
            console = Console(width=None if sys.stdout.isatty() else 200)
            with console.capture() as capture:
                console.print(tables(overview))
            click.echo(capture.get(), nl=False)


@command.command("retry")
@click.argument("job", type=JobReference())
def retry(job: UUID | int) -> None:
    """Try again what failed. An export becomes a new export of the same owner; another job is tried as it is."""
    with exit_on_error():
        click.echo(asyncio.run(_write(load(), service.retry_job, job)))


@command.command("cancel")
@click.argument("job", type=JobReference())
def cancel(job: UUID | int) -> None:
    """Cancel a job: at once if it waits, within a second if it runs."""
    with exit_on_error():
        click.echo(asyncio.run(_write(load(), service.cancel_job, job)))


async def _read_overview(settings: Settings) -> Overview:
    async with open_database(settings, _CONNECTION) as database, database.read() as db:
        return await queue_overview.read_overview(db, settings)


async def _write(settings: Settings, work: service.Work, job: UUID | int) -> str:
    async with open_database(settings, _CONNECTION) as database, database.write() as db:
        return (await work(db, command_of(OPERATOR), job)).said


async def _watch(settings: Settings) -> None:
    async with open_database(settings, _CONNECTION) as database:
        with Live(screen=sys.stdout.isatty(), auto_refresh=False) as live:
            while True:
                async with database.read() as db:
                    live.update(tables(await queue_overview.read_overview(db, settings)), refresh=True)
                await asyncio.sleep(WATCH_SECONDS)


def tables(overview: Overview) -> Group:
    """The overview for people. A table without rows is one line that says so."""
    return Group(
        _workers(overview),
        _depths(overview),
        _jobs(overview, "running", "doing"),
        _jobs(overview, "waiting in the queue", "todo"),
        _owners(overview),
        _failed_exports(overview),
        _failed_jobs(overview),
        _deaths(overview),
    )


def _workers(overview: Overview) -> "Rows | Text":
    return _table(
        "workers",
        ["id", "host", "pid", "heartbeat", "state", "running"],
        [[w.id, w.host, w.pid, age(w.heartbeat_age), _worker_state(w), w.running] for w in overview.workers],
    )


def _worker_state(worker: WorkerNow) -> str:
    if not worker.holds_lock:
        return "gone"
    return "draining" if worker.draining else "works"


def _depths(overview: Overview) -> "Rows | Text":
    oldest = overview.oldest_waiting
    waits = "nothing waits" if oldest is None else f"the oldest waits for {age(oldest)}"
    rows: list[list[object]] = [[depth.queue, depth.status, depth.jobs] for depth in overview.depths]
    return _table(f"jobs; {waits}", ["queue", "status", "jobs"], rows)


def _jobs(overview: Overview, title: str, status: str) -> "Rows | Text":
    """The jobs of one status, each with the export that it makes, if it makes one."""
    exports = {export.queue_job_id: export for export in overview.exports}
    return _table(
        title,
        ["job", "attempt", "worker", "for", "state", "what", "owner", "done", "export"],
        [_job(job, exports.get(job.id)) for job in overview.jobs if job.status == status],
    )


def _job(job: JobNow, export: ExportNow | None) -> list[object]:
    state = "canceling" if job.cancel_asked else job.stalled or ""
    row: list[object] = [job.id, job.attempt, job.worker_id, age(job.seconds), state]
    if export is None:
        return [*row, job.task, "", "", ""]
    return [*row, export.dataset, export.owner, _progress(export), export.id]


def _progress(export: ExportNow) -> str:
    return f"{export.rows_done:,} rows" if export.percent is None else f"{export.percent:.0f} %"


def _owners(overview: Overview) -> "Rows | Text":
    return _table(
        "exports of each owner",
        ["owner", "in the queue", "waiting for admission", "the first for"],
        [[o.owner, o.admitted, o.waiting, "" if o.oldest is None else age(o.oldest)] for o in overview.owners],
    )


def _failed_exports(overview: Overview) -> "Rows | Text":
    return _table(
        "failed exports of the last week",
        ["export", "dataset", "owner", "at", "why"],
        [[f.id, f.dataset, f.owner, _time(f.at), f"{f.reason} ({f.problem})"] for f in overview.failed_exports],
    )


def _failed_jobs(overview: Overview) -> "Rows | Text":
    return _table(
        "failed jobs",
        ["job", "queue", "task", "attempts", "at", "deaths"],
        [[f.id, f.queue, f.task, f.attempts, _time(f.at), f.deaths] for f in overview.failed_jobs],
    )


def _deaths(overview: Overview) -> "Rows | Text":
    return _table(
        "workers that died under a job",
        ["job", "status", "deaths", "the last", "of worker", "at"],
        [[d.job_id, d.status, d.deaths, d.last_reason, d.last_worker_id, _time(d.last_at)] for d in overview.deaths],
    )


def _table(title: str, columns: list[str], rows: list[list[object]]) -> "Rows | Text":
    return Rows(title, columns, rows) if rows else Text(f"{title}: none\n")


class Rows:
    """A table, or on a terminal that is too narrow for it a paragraph for each row."""

    def __init__(self, title: str, columns: list[str], rows: list[list[object]]) -> None:
        self._title, self._columns = title, columns
        # Text objects and not strings, which rich would read as markup: names come from users
        self._rows = [[Text("" if cell is None else str(cell)) for cell in row] for row in rows]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(self._title, style="bold")
        table = Table(*self._columns, box=None, pad_edge=False)
        for row in self._rows:
            table.add_row(*row)
        if Measurement.get(console, options.update_width(_ANY_WIDTH), table).maximum <= options.max_width:
            yield table
        else:
            for row in self._rows:
                named = [
                    Text(f"{name} ").append_text(cell) for name, cell in zip(self._columns, row, strict=True) if cell
                ]
                yield Text("  ").append_text(Text(", ").join(named))
        yield ""


def age(seconds: float) -> str:
    """For people: `0.4 s`, `12 s`, `3 min`, `5 h`, `2 d`."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def _time(at: datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M:%S}Z"
