"""`erp export`: a client of a running service, for people at a terminal and for pipes."""

import contextlib
import errno
import os
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import click
from rich.filesize import decimal

from erp_service.client import Client, ClientError, Job, NotIntact, NotSucceeded, SignedOut, Unreachable
from erp_service.commands import terminal
from erp_service.commands.progress import progress_display
from erp_service.commands.terminal import INTERRUPTED, PIPE_CLOSED, entered_password, exit_with, say, silence_stdout

REFUSED, NOT_INTACT, UNREACHABLE = 1, 3, 4
DEFAULT_URL = "http://127.0.0.1:8000"

_ASK_SECONDS = 5.0  # after Ctrl-C, for the id of a job that was perhaps submitted
_DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}


@click.command("export")
@click.argument("dataset", required=False)
@click.option(
    "--all", "all_datasets", is_flag=True, help="Every dataset you may read, of one snapshot, in a zip archive."
)
@click.option("-o", "--output", metavar="FILE", help="`-` is standard output. By default the name the service gives.")
@click.option("--format", "format_", default="csv", show_default=True, help="csv, jsonl, xlsx, parquet: see the API.")
@click.option("--compression", default="none", show_default=True, help="none, gzip or zstd, around a text format.")
@click.option("--columns", metavar="A,B,...", help="Only these columns, in this order.")
@click.option("--filter", "filters", metavar="NAME=VALUE", multiple=True, help="May be repeated; all must match.")
@click.option("--sort", metavar="NAME", help="With a minus in front for descending order: --sort=-id.")
@click.option("--delimiter", type=click.Choice(list(_DELIMITERS)), help="CSV: between two cells.")
@click.option("--decimal-comma", is_flag=True, help="CSV: 12,5 instead of 12.5.")
@click.option("--no-header", is_flag=True, help="CSV: no column names in the first line.")
@click.option("--bom", is_flag=True, help="CSV: begin with a byte order mark, by which Excel recognises UTF-8.")
@click.option("--null", metavar="TEXT", help="CSV: the text of a cell that is null.")
@click.option("--crlf", is_flag=True, help="CSV: Windows line endings.")
@click.option("--formula-guard", is_flag=True, help="CSV: no cell is a formula for a spreadsheet.")
@click.option("--for", "for_", metavar="EXCEL", help="excel, excel-de, ...: a CSV that Excel in that language opens.")
@click.option("--timezone", metavar="ZONE", help="Of times in CSV and XLSX, {date}, relative filters: Europe/Berlin.")
@click.option("--filename", metavar="TEMPLATE", help="The file name in the service, such as {dataset}-{date}.{ext}.")
@click.option("--keep-hours", type=int, help="How long the service keeps the file.")
@click.option("--force-new", is_flag=True, help="A new export, even while an equal one of yours waits or runs.")
@click.option("--validate-only", is_flag=True, help="Submit nothing; print an estimate of rows, bytes and time.")
@click.option("--resume", metavar="JOB_ID", type=click.UUID, help="Follow and download an export submitted earlier.")
@click.option("--cancel", metavar="JOB_ID", type=click.UUID, help="Cancel an export, and do nothing else.")
@click.option("--url", default=DEFAULT_URL, show_default=True, envvar="ERP_URL", help="The service, or ERP_URL.")
@click.option("--user", metavar="E-MAIL", help="Sign in instead of using ERP_TOKEN; stays signed in.")
def command(resume: UUID | None, cancel: UUID | None, **given: Any) -> None:
    """Export a dataset of a running service: submit, follow, download, check the digest.

    Signs in with ERP_TOKEN, or asks for e-mail and password (on standard input, if that is not a terminal). A download
    that breaks continues at the byte where it broke. Ctrl-C leaves the export running, and prints how to continue.

    \b
    erp export items -o items.csv
    erp export stock_movements --format xlsx --filter from=2026-01-01T00:00:00Z
    erp export stock_movements --for excel-de --timezone Europe/Berlin \\
        --filter from=yesterday --filter to=today
    erp export --all --format parquet -o everything.zip
    erp export items -o - | head

    \b
    Exit status:
      0    the file is complete, and its digest is right
      1    the service refused, the export failed, or the file could not be
           written
      2    the command line is wrong
      3    the digest is wrong; a file is removed, a pipe's reader has had it
      4    the service cannot be reached
      130  interrupted; --resume continues
      141  the reader of the pipe went away
    """
    if sum(map(bool, [given["dataset"], given["all_datasets"], resume, cancel])) != 1:
        raise click.UsageError("Say one of DATASET, --all, --resume JOB_ID and --cancel JOB_ID.")
    request = _Request(given["output"], given["url"])
    with _exit_statuses(request):
        if not (cancel or given["validate_only"]):
            _require_writable(given["output"])
    with _exit_statuses(request), client_for(given["url"], given["user"]) as erp:
        if cancel:
            say(f"The export is {erp.cancel(str(cancel))['status']}.")
            return
        dataset, options = given["dataset"] or "all", {} if resume else _options(erp, given)
        if given["validate_only"]:
            _print_estimate(erp.estimate(dataset, **options))
            return
        request.job = erp.job(str(resume)) if resume else None
        _fetch(erp, request.job or _submit(erp, dataset, options, request), request)


class _Request:
    """The job, once it is known, and the options that are needed to resume it."""

    def __init__(self, output: str | None, url: str) -> None:
        self.output, self.url = output, url
        self.job: Job | None = None
        self.maybe_submitted = False
        """The request was sent, and its answer is not known."""

    @property
    def outlook(self) -> str:
        """What becomes of the export when this process ends now."""
        if self.job is not None and self.job["status"] == "succeeded":
            return f"The service keeps the file until {self.job['expires_at']}."
        if self.job is not None:
            return f"The export goes on without you; --cancel {self.job['id']} stops it."
        if self.maybe_submitted:
            return (
                "The export may have been submitted all the same, and then goes on without you.\n"
                "The same command continues with it while it waits or runs, unless it says --force-new."
            )
        return "Nothing was submitted."

    @property
    def resume_hint(self) -> str:
        if self.job is None:
            return ""
        words = ["erp", "export", "--resume", self.job["id"]]
        words += ["-o", self.output] if self.output else []
        words += ["--url", self.url] if self.url != DEFAULT_URL else []
        return f"\nGo on with: {shlex.join(words)}"


@contextlib.contextmanager
def _exit_statuses(request: _Request) -> Iterator[None]:
    """Each failure ends with its exit status and one message, which says how to continue if that is possible."""
    try:
        yield
    except KeyboardInterrupt:
        exit_with(INTERRUPTED, f"interrupted. {request.outlook}{request.resume_hint}")
    except BrokenPipeError:
        silence_stdout()
        exit_with(PIPE_CLOSED, "the reader of the pipe went away.")
    except NotIntact as exc:
        exit_with(NOT_INTACT, f"{exc}{request.resume_hint}")
    except Unreachable as exc:
        exit_with(UNREACHABLE, f"{exc}{request.resume_hint}")
    except SignedOut as exc:
        hint = f"Sign in again: a new ERP_TOKEN, or --user, which stays signed in.{request.resume_hint}"
        exit_with(REFUSED, f"{exc}\n{hint}")
    except NotSucceeded as exc:
        exit_with(REFUSED, f"{exc} (export {exc.job['id']})")
    except ClientError as exc:
        exit_with(REFUSED, str(exc))
    except OSError as exc:
        exit_with(REFUSED, f"cannot write: {exc.filename or request.output}: {exc.strerror}{request.resume_hint}")


def _require_writable(output: str | None) -> None:
    """Raises OSError: nobody should wait for an export to learn then that it cannot be written."""
    if output == "-":
        return
    path = Path(output) if output else Path("export")
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), output)
    directory = path.parent
    if not directory.is_dir():
        code = errno.ENOTDIR if directory.exists() else errno.ENOENT
        raise OSError(code, os.strerror(code), output)
    if not os.access(directory, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path if output else Path.cwd()))


def client_for(url: str, user: str | None) -> Client:
    if re.match(r"https?://[^/\s:]", url) is None:
        raise click.UsageError(f"{url!r} is not the URL of a service, such as {DEFAULT_URL}: see --url and ERP_URL.")
    token = None if user else os.environ.get("ERP_TOKEN", "").strip()
    if token and not (token.isascii() and token.isprintable()):
        raise click.UsageError("ERP_TOKEN is not a token: it holds characters that no token has.")
    if token:
        return Client(url, token, notice=_notice)
    if not user and not sys.stdin.isatty():
        user = sys.stdin.readline().strip()
        if not user:
            raise click.UsageError(
                "ERP_TOKEN is not set, and there is no terminal to ask for e-mail and password: set ERP_TOKEN, or write"
                " both to standard input, a line each."
            )
    user = user or str(click.prompt("E-mail", err=True))
    return Client.sign_in(url, user, entered_password(confirm=False), code=terminal.entered_code, notice=_notice)


def _notice(sentence: str) -> None:
    say(f"erp: {sentence}")


def _options(erp: Client, given: dict[str, Any]) -> dict[str, Any]:
    csv = {
        "delimiter": _DELIMITERS.get(given["delimiter"]),
        "decimal_comma": given["decimal_comma"] or None,
        "header": False if given["no_header"] else None,
        "bom": given["bom"] or None,
        "null": given["null"],
        "line_ending": "crlf" if given["crlf"] else None,
        "formula_guard": given["formula_guard"] or None,
    }
    options = {
        "format": given["format_"],
        "compression": given["compression"],
        "columns": given["columns"].split(",") if given["columns"] is not None else None,
        "filter": _filters(erp, given["dataset"], given["filters"]) or None,
        "sort": given["sort"],
        "csv": {name: value for name, value in csv.items() if value is not None} or None,
        "for": given["for_"],
        "timezone": given["timezone"],
        "filename": given["filename"],
        "retention_hours": given["keep_hours"],
        "force_new": given["force_new"] or None,
    }
    return {name: value for name, value in options.items() if value is not None}


def _filters(erp: Client, dataset: str | None, given: tuple[str, ...]) -> dict[str, str | int | bool]:
    """Values get the types of the catalogue. A value that does not fit is sent as text, and the service refuses it."""
    pairs = [argument.partition("=") for argument in given]
    if any(not equals for _, equals, _ in pairs):
        raise click.UsageError("A filter is NAME=VALUE.")
    if len({name for name, _, _ in pairs}) < len(pairs):
        raise click.UsageError("The same filter is given twice.")
    if not pairs:
        return {}
    filters = {entry["name"]: entry["filters"] for entry in erp.datasets()}
    types = {filter_["name"]: filter_["type"] for filter_ in filters.get(dataset or "", [])}
    return {name: _typed(value, types.get(name, "text")) for name, _, value in pairs}


def _typed(value: str, type_: str) -> str | int | bool:
    if type_ == "integer" and value.isascii() and value.isdigit():
        return int(value)
    if type_ == "boolean" and value.lower() in ("true", "false"):
        return value.lower() == "true"
    return value


def _print_estimate(estimate: dict[str, Any]) -> None:
    about = "about " if estimate["rows_is_estimate"] else ""
    click.echo(f"rows     {about}{estimate['rows']:,}")
    click.echo(f"size     about {decimal(estimate['bytes'])}")
    click.echo(f"time     about {estimate['seconds']:,} s after it has started")


def _submit(erp: Client, dataset: str, options: dict[str, Any], request: _Request) -> Job:
    """After Ctrl-C the same request is sent again, since its answer is the job that the first one made."""
    key = str(uuid4())
    try:
        request.maybe_submitted = True
        request.job = erp.submit(dataset, key=key, **options)
    except KeyboardInterrupt:
        say("\ninterrupted; asking whether the export was submitted. Ctrl-C again: do not ask.")
        try:
            request.job = erp.submit(dataset, key=key, within=_ASK_SECONDS, **options)
        except ClientError as exc:
            request.maybe_submitted = isinstance(exc, Unreachable)
        raise
    return request.job


def _fetch(erp: Client, job: Job, request: _Request) -> None:
    with progress_display() as display:

        def show(state: Job) -> None:
            request.job = state
            display.job(state)

        request.job = job = erp.follow(job, show=show)
        if request.output == "-":
            erp.download(job, sys.stdout.buffer, show=display.bytes)
            sys.stdout.buffer.flush()
            target = "standard output"
        else:
            path = Path(request.output) if request.output else _new_path(job)
            erp.download(job, path, show=display.bytes)
            target = str(path)
    result = job["result"]
    say(f"{result['rows']:,} rows, {result['bytes']:,} bytes, sha256 {result['sha256']}: {target}")


def _new_path(job: Job) -> Path:
    """In the working directory, whatever name the service gives. Raises ClientError if a file of that name exists."""
    name = job["result"]["filename"].replace("\\", "/").rpartition("/")[2]
    if name.startswith(".") or not name or any(ord(character) < 32 for character in name):
        name = f"export-{job['id']}"
    if (path := Path(name)).exists():
        raise ClientError(f"{path} is here already; the export is {job['id']}: --resume it with another name in -o.")
    return path
