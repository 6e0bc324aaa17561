"""`erp import --url`: a client of a running service. It sends the file as it is, follows the job, and prints what the
service says of it."""

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO
from uuid import UUID

import click

from erp_service.client import Client, ClientError, Job, NotSucceeded, Unreachable
from erp_service.commands.export import REFUSED, UNREACHABLE, client_for
from erp_service.commands.progress import progress_display
from erp_service.commands.terminal import INTERRUPTED, exit_with, say

STDIN = "-"
_ASK_SECONDS = 5.0  # after Ctrl-C, to cancel the import


def run(
    url: str, user: str | None, kind: str | None, path: str | None, undo: str | None, given: Mapping[str, Any]
) -> None:
    """Import a file, or undo an import. Exits with the status that the command documents."""
    if undo is not None:
        undo = _job_id(undo)
    jobs: list[Job] = []
    with _exit_statuses(jobs, None), client_for(url, user) as erp, _exit_statuses(jobs, erp):
        job = _submitted_and_followed(erp, kind or "", path or STDIN, undo, given, jobs)
    for warning in job["result"]["warnings"]:
        say(f"warning: {warning}")
    say(_outcome(job))


def _submitted_and_followed(
    erp: Client, kind: str, path: str, undo: str | None, given: Mapping[str, Any], jobs: list[Job]
) -> Job:
    with progress_display("sending") as display:

        def show(job: Job) -> None:
            jobs[:] = [job]
            display.job(job)

        if undo is not None:
            job = erp.undo_import(undo, given["reason"])
        else:
            name = "stdin" if path == STDIN else Path(path).name
            with _opened(path) as file:
                job = erp.import_file(kind, file, name=name, show=display.bytes, **_options(given))
        show(job)
        return erp.follow(job, show=show)


def _options(given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of the request."""
    zone = given["zone"]
    return {
        "mode": given["mode"],
        "dry_run": given["dry_run"] or None,
        "delimiter": given["delimiter"],
        "decimal_comma": given["decimal_comma"] or None,
        "timezone": None if zone is None else zone.key,
        "encoding": given["encoding"],
        "sort": given["sort"],
        "history": given["history"] or None,
        "keep_codes": given["keep_codes"] or None,
    }


@contextlib.contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    """A file that can be read again: standard input is copied first."""
    if path == STDIN:
        with tempfile.TemporaryFile(prefix="erp-import-") as copy:
            shutil.copyfileobj(sys.stdin.buffer, copy)
            yield copy
    else:
        with Path(path).open("rb") as file:
            yield file


def _job_id(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        raise click.UsageError("--undo with --url takes the id of the import's job.") from None


@contextlib.contextmanager
def _exit_statuses(jobs: list[Job], erp: Client | None) -> Iterator[None]:
    """Each failure ends with its exit status and one message. `jobs` holds the job once it is known."""
    try:
        yield
    except KeyboardInterrupt:
        exit_with(INTERRUPTED, f"interrupted. {_canceled(jobs, erp)}")
    except Unreachable as exc:
        exit_with(UNREACHABLE, f"{exc} {_outlook(jobs)}")
    except NotSucceeded as exc:
        for fault in exc.job.get("faults", []):
            say(_fault(fault))
        report = exc.job["links"].get("report")
        exit_with(REFUSED, f"{exc}{f' All bad lines: GET {report}' if report else ''} (import {exc.job['id']})")
    except ClientError as exc:
        exit_with(REFUSED, str(exc))
    except OSError as exc:
        exit_with(REFUSED, f"cannot read {exc.filename or 'the file'}: {exc.strerror}")


def _canceled(jobs: list[Job], erp: Client | None) -> str:
    if not jobs or erp is None:
        return "The file was not sent, or not to its end: nothing was imported, unless the message was on its way."
    try:
        status = erp.cancel_import(jobs[0]["id"], within=_ASK_SECONDS)["status"]
    except ClientError as exc:
        return f"{exc} {_outlook(jobs)}"
    return f"The import is {status}."


def _outlook(jobs: list[Job]) -> str:
    return f"The import {jobs[0]['id']} goes on without you." if jobs else "The same command may be repeated."


def _fault(fault: Mapping[str, Any]) -> str:
    position = [f"line {fault['line']}"] if fault["line"] else []
    position += [fault["column"]] if fault["column"] else []
    return ": ".join(part for part in (", ".join(position), fault["detail"]) if part)


def _outcome(job: Job) -> str:
    result = job["result"]
    if job["undo_of"] is not None:
        return f"Reversed {result['rows']:,} documents (import {job['undo_of']})."
    count = f"{result['rows']:,} {job['dataset']}"
    if job["mode"] != "create":
        count += f": {result['created']:,} new, {result['updated']:,} changed, {result['unchanged']:,} unchanged"
    if job["dry_run"]:
        return f"Nothing was imported. It would be {count}."
    return f"Imported {count} (import {job['id']})."
