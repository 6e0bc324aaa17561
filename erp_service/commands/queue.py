"""`erp queue`: what the queue does, on a terminal and for programs, and what an operator can do about it."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any
from uuid import UUID

import click
import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from erp_service import settings
from erp_service.commands.database import exit_on_error
from erp_service.db.engine import Database
from erp_service.db.sessions import WriteSession
from erp_service.operations import queue_overview
from erp_service.operations.queue_overview import Overview
from erp_service.queue.inspection import WorkerNow
from erp_service.settings import Settings

WATCH_SECONDS = 1.0


class JobName(click.ParamType[UUID | int]):
    """An export by its id, or a job by the queue's number."""

    name = "job"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> UUID | int:
        try:
            return int(value) if str(value).isdecimal() else UUID(str(value))
        except ValueError:
            self.fail(f"{value!r} is neither the id of an export nor the number of a job", param, ctx)


@click.group("queue", invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="For programs: one object.")
@click.option("--watch", is_flag=True, help="Again each second, until Ctrl-C.")
@click.pass_context
def command(context: click.Context, *, as_json: bool, watch: bool) -> None:
    """What the queue does: workers, what runs, waits, stalls and failed.

    \b
    erp queue retry JOB     try what failed again
    erp queue cancel JOB    end what waits or runs

    JOB is the id of an export, or a number of the queue. Uses ERP_DATABASE_URL.
    """
    if context.invoked_subcommand is not None:
        return
    with exit_on_error(), suppress(KeyboardInterrupt):
        loaded = settings.load()
        if watch:
            asyncio.run(_watch(loaded))
        elif as_json:
            click.echo(msgspec.json.format(msgspec.json.encode(asyncio.run(_look(loaded)))))
        else:
            Console(width=None if sys.stdout.isatty() else 200).print(shown(asyncio.run(_look(loaded))))


@command.command("retry")
@click.argument("job", type=JobName())
def retry(job: UUID | int) -> None:
    """Try again what failed: an export as a new one of its owner's, another job as it is."""
    with exit_on_error():
        loaded = settings.load()
        click.echo(asyncio.run(_changed(loaded, lambda db: queue_overview.retry(db, loaded, job))))


@command.command("cancel")
@click.argument("job", type=JobName())
def cancel(job: UUID | int) -> None:
    """End what waits at once, and what runs within a second."""
    with exit_on_error():
        loaded = settings.load()
        click.echo(asyncio.run(_changed(loaded, lambda db: queue_overview.cancel(db, loaded, job))))


async def _look(loaded: Settings) -> Overview:
    database = Database(loaded, name="erp queue")
    try:
        async with database.read() as db:
            return await queue_overview.overview(db, loaded)
    finally:
        await database.close()


async def _changed(loaded: Settings, work: Callable[[WriteSession], Awaitable[str]]) -> str:
    database = Database(loaded, name="erp queue")
    try:
        async with database.write() as db:
            return await work(db)
    finally:
        await database.close()


async def _watch(loaded: Settings) -> None:
    database = Database(loaded, name="erp queue")
    try:
        with Live(screen=sys.stdout.isatty(), auto_refresh=False) as live:
            while True:
                async with database.read() as db:
                    live.update(shown(await queue_overview.overview(db, loaded)), refresh=True)
                await asyncio.sleep(WATCH_SECONDS)
    finally:
        await database.close()


def shown(seen: Overview) -> Group:
    """As tables; one without lines says so in a word."""
    exports = {export.queue_job_id: export for export in seen.exports}
    oldest = "nothing waits" if seen.oldest_waiting is None else f"the oldest waits for {age(seen.oldest_waiting)}"
    parts = [
        _table(
            "workers",
            ["id", "host", "pid", "heartbeat", "state", "running"],
            [
                [
                    w.id,
                    w.host,
                    w.pid,
                    age(w.heartbeat_age),
                    _state(w),
                    w.running,
                ]
                for w in seen.workers
            ],
        ),
        _table(f"jobs; {oldest}", ["queue", "status", "jobs"], [[d.queue, d.status, d.jobs] for d in seen.depths]),
    ]
    for title, status in (("running", "doing"), ("waiting in the queue", "todo")):
        lines = []
        for job in seen.jobs:
            if job.status == status:
                export = exports.get(job.id)
                what = [export.dataset, export.owner, _percent(export), export.id] if export else [job.task, "", "", ""]
                state = "canceling" if job.cancel_asked else job.stalled or ""
                lines.append([job.id, job.attempt, job.worker_id, age(job.seconds), state, *what])
        columns = ["job", "attempt", "worker", "for", "state", "what", "owner", "done", "export"]
        parts.append(_table(title, columns, lines))
    parts += [
        _table(
            "exports of each owner",
            ["owner", "in the queue", "waiting for admission", "the first for"],
            [[o.owner, o.admitted, o.waiting, "" if o.oldest is None else age(o.oldest)] for o in seen.owners],
        ),
        _table(
            "failed exports of the last week",
            ["export", "dataset", "owner", "at", "why"],
            [[f.id, f.dataset, f.owner, _time(f.at), f"{f.reason} ({f.problem})"] for f in seen.failed_exports],
        ),
        _table(
            "failed jobs",
            ["job", "queue", "task", "attempts", "at", "deaths"],
            [[f.id, f.queue, f.task, f.attempts, _time(f.at), f.deaths] for f in seen.failed_jobs],
        ),
        _table(
            "workers that died under a job",
            ["job", "status", "deaths", "the last", "of worker", "at"],
            [[d.job_id, d.status, d.deaths, d.last_reason, d.last_worker_id, _time(d.last_at)] for d in seen.deaths],
        ),
    ]
    return Group(*parts)


def age(seconds: float) -> str:
    """For people: `0.4 s`, `12 s`, `3 min`, `5 h`, `2 d`."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def _table(title: str, columns: list[str], lines: list[list[object]]) -> Group | Text:
    if not lines:
        return Text(f"{title}: none\n")
    table = Table(*columns, box=None, pad_edge=False)
    for line in lines:
        # text, not markup: names come from users
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in line))
    return Group(Text(title, style="bold"), table, "")


def _state(worker: WorkerNow) -> str:
    if not worker.holds_lock:
        return "gone"
    return "draining" if worker.draining else "works"


def _percent(export: queue_overview.ExportNow) -> str:
    return f"{export.rows_done:,} rows" if export.percent is None else f"{export.percent:.0f} %"


def _time(at: Any) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M:%S}Z"
