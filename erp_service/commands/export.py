"""`erp export`: a client of a running service, for people at a terminal and for pipes."""

import contextlib
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import click
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from erp_service.client import Client, ClientError, Job, NotIntact, NotSucceeded, SignedOut, Unreachable
from erp_service.commands.terminal import entered_password, say

REFUSED, USAGE, NOT_INTACT, UNREACHABLE, INTERRUPTED, PIPE_CLOSED = 1, 2, 3, 4, 130, 141
DEFAULT_URL = "http://127.0.0.1:8000"

_PLAIN_SECONDS = 2.0  # between two lines where there is no terminal
_DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}


@click.command("export")
@click.argument("dataset", required=False)
@click.option("--all", "everything", is_flag=True, help="Every dataset you may read, at one instant, as a zip archive.")
@click.option("-o", "--output", metavar="FILE", help="Where to; `-` for a pipe. Else the name the service gives.")
@click.option("--format", "format_", default="csv", show_default=True, help="csv, jsonl, xlsx, parquet: see the API.")
@click.option("--compression", default="none", show_default=True, help="none, gzip or zstd, around a text format.")
@click.option("--columns", metavar="A,B,...", help="Some of the columns, in this order.")
@click.option("--filter", "filters", metavar="NAME=VALUE", multiple=True, help="All must hold; may be repeated.")
@click.option("--sort", metavar="NAME", help="With a minus in front for downwards: --sort=-id.")
@click.option("--delimiter", type=click.Choice(list(_DELIMITERS)), help="CSV: between two cells.")
@click.option("--decimal-comma", is_flag=True, help="CSV: 12,5 instead of 12.5.")
@click.option("--no-header", is_flag=True, help="CSV: no names of columns in the first line.")
@click.option("--bom", is_flag=True, help="CSV: begin with a byte order mark, by which Excel knows UTF-8.")
@click.option("--null", metavar="TEXT", help="CSV: what stands for null.")
@click.option("--crlf", is_flag=True, help="CSV: end lines as Windows does.")
@click.option("--formula-guard", is_flag=True, help="CSV: spreadsheets take no cell for a formula.")
@click.option("--filename", metavar="TEMPLATE", help="What the service calls the file, such as {dataset}-{date}.{ext}.")
@click.option("--keep-hours", type=int, help="How long the service keeps the file.")
@click.option("--force-new", is_flag=True, help="A new export, also while your same request waits or runs.")
@click.option("--validate-only", is_flag=True, help="Submit nothing; print what rows, bytes and time to expect.")
@click.option("--resume", "resumed", metavar="JOB_ID", type=click.UUID, help="Follow and download an export of before.")
@click.option("--cancel", "canceled", metavar="JOB_ID", type=click.UUID, help="Cancel an export, and do nothing else.")
@click.option("--url", default=DEFAULT_URL, show_default=True, envvar="ERP_URL", help="The service, or ERP_URL.")
@click.option("--user", metavar="E-MAIL", help="Sign in instead of using ERP_TOKEN; stays signed in.")
def command(resumed: UUID | None, canceled: UUID | None, **given: Any) -> None:
    """Export a dataset of a running service: submit, follow, download, check the digest.

    Signs in with ERP_TOKEN, or asks for e-mail and password (standard input, when that is no terminal). A download
    that breaks goes on at the byte where it broke. Ctrl-C leaves the export running, and says how to go on with it.

    \b
    erp export items -o items.csv
    erp export stock_movements --format xlsx --filter from=2026-01-01T00:00:00Z
    erp export --all --format parquet -o everything.zip
    erp export items -o - | head

    \b
    Exit status:
      0    the file is whole, and its digest is right
      1    the service refused, the export failed, or the file could not be written
      2    the command was not understood
      3    what was downloaded is not intact; a file is removed, a pipe's reader has had it
      4    the service cannot be reached
      130  interrupted; --resume goes on
      141  the reader of the pipe went away
    """
    ways = [given["dataset"], given["everything"], resumed, canceled]
    if sum(map(bool, ways)) != 1:
        raise click.UsageError("Say one of DATASET, --all, --resume JOB_ID and --cancel JOB_ID.")
    asked = _Asked(given["output"], given["url"])
    with _ends(asked), _client(given["url"], given["user"]) as erp:
        if canceled:
            say(f"The export is {erp.cancel(str(canceled))['status']}.")
            return
        dataset, options = given["dataset"] or "all", {} if resumed else _options(erp, given)
        if given["validate_only"]:
            _print_estimate(erp.estimate(dataset, **options))
            return
        asked.job = erp.job(str(resumed)) if resumed else erp.submit(dataset, **options)
        _fetch(erp, asked)


class _Asked:
    """What is needed to say how to go on, whenever it ends."""

    def __init__(self, output: str | None, url: str) -> None:
        self.output, self.url = output, url
        self.job: Job | None = None

    @property
    def way_on(self) -> str:
        if self.job is None:
            return ""
        words = ["erp", "export", "--resume", self.job["id"]]
        words += ["-o", self.output] if self.output else []
        words += ["--url", self.url] if self.url != DEFAULT_URL else []
        return f"\nGo on with: {shlex.join(words)}"


@contextlib.contextmanager
def _ends(asked: _Asked) -> Iterator[None]:
    """Every end has its status and one clear message, and says how to go on where one can."""
    try:
        yield
    except KeyboardInterrupt:
        state = "The export goes on without you." if asked.job else "Nothing is lost."
        _end(INTERRUPTED, f"interrupted. {state}{asked.way_on}")
    except BrokenPipeError:
        # nobody reads standard output any more; Python would complain about that once more at its exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _end(PIPE_CLOSED, "the reader of the pipe went away.")
    except NotIntact as exc:
        _end(NOT_INTACT, f"{exc}{asked.way_on}")
    except Unreachable as exc:
        _end(UNREACHABLE, f"{exc}{asked.way_on}")
    except SignedOut as exc:
        _end(REFUSED, f"{exc}\nSign in again: a new ERP_TOKEN, or --user, which stays signed in.{asked.way_on}")
    except NotSucceeded as exc:
        _end(REFUSED, f"{exc} (export {exc.job['id']})")
    except ClientError as exc:
        _end(REFUSED, str(exc))
    except OSError as exc:
        _end(REFUSED, f"cannot write: {exc.filename or asked.output}: {exc.strerror}{asked.way_on}")


def _end(status: int, message: str) -> None:
    say(f"erp: {message}")
    sys.exit(status)


def _client(url: str, user: str | None) -> Client:
    token = None if user else os.environ.get("ERP_TOKEN")
    if token:
        return Client(url, token)
    user = user or str(click.prompt("E-mail", err=True))
    return Client.sign_in(url, user, entered_password(confirm=False))


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
        "filename": given["filename"],
        "retention_hours": given["keep_hours"],
        "force_new": given["force_new"] or None,
    }
    return {name: value for name, value in options.items() if value is not None}


def _filters(erp: Client, dataset: str | None, given: tuple[str, ...]) -> dict[str, str | int | bool]:
    """With values of the types that the catalogue says. What does not fit goes as text: the service says it best."""
    pairs = [one.partition("=") for one in given]
    if any(not equals for _, equals, _ in pairs):
        raise click.UsageError("A filter is NAME=VALUE.")
    if len({name for name, _, _ in pairs}) < len(pairs):
        raise click.UsageError("A filter stands here twice.")
    if not pairs:
        return {}
    known = {found["name"]: found["filters"] for found in erp.datasets()}
    kinds = {filter_["name"]: filter_["type"] for filter_ in known.get(dataset or "", [])}
    return {name: _typed(value, kinds.get(name, "text")) for name, _, value in pairs}


def _typed(value: str, kind: str) -> str | int | bool:
    if kind == "integer" and value.isascii() and value.isdigit():
        return int(value)
    if kind == "boolean" and value.lower() in ("true", "false"):
        return value.lower() == "true"
    return value


def _print_estimate(found: dict[str, Any]) -> None:
    about = "about " if found["rows_is_estimate"] else ""
    click.echo(f"rows     {about}{found['rows']:,}")
    click.echo(f"size     about {decimal(found['bytes'])}")
    click.echo(f"time     about {found['seconds']:,} s, once its turn has come")


def _fetch(erp: Client, asked: _Asked) -> None:
    if asked.job is None:
        raise ValueError("nothing was submitted")
    with _display() as display:
        asked.job = job = erp.follow(asked.job, show=display.job)
        if asked.output == "-":
            erp.download(job, sys.stdout.buffer, show=display.bytes)
            sys.stdout.buffer.flush()
            where = "standard output"
        else:
            path = Path(asked.output) if asked.output else _new_path(job)
            erp.download(job, path, show=display.bytes)
            where = str(path)
    result = job["result"]
    say(f"{result['rows']:,} rows, {result['bytes']:,} bytes, sha256 {result['sha256']}: {where}")


def _new_path(job: Job) -> Path:
    """In this directory, whatever the service says; raises ClientError where something is already."""
    name = job["result"]["filename"].replace("\\", "/").rpartition("/")[2]
    if name.startswith(".") or not name or any(ord(character) < 32 for character in name):
        name = f"export-{job['id']}"
    if (path := Path(name)).exists():
        raise ClientError(f"{path} is here already; the export is {job['id']}: --resume it with another name in -o.")
    return path


class _Display(NamedTuple):
    job: Callable[[Job], object]
    bytes: Callable[[int, int], object]


@contextlib.contextmanager
def _display() -> Iterator[_Display]:
    """A bar on a terminal, or now and then a line."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines()
        return
    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[said]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        exporting = bar.add_task("waiting", total=None, said="")
        getting = bar.add_task("downloading", total=None, said="", visible=False)

        def job(job: Job) -> None:
            percent = job["progress"]["percent"]
            total = None if percent is None else 100
            bar.update(exporting, description=job["status"], completed=percent or 0, total=total, said=_said(job))

        def bytes_(done: int, total: int) -> None:
            said = f"{decimal(done)} of {decimal(total)}"
            bar.update(getting, completed=done, total=total, said=said, visible=True)

        yield _Display(job, bytes_)


def _lines() -> _Display:
    shown: dict[str, Any] = {"at": 0.0, "what": None}

    def show(what: str, text: str, *, last: bool) -> None:
        if last or what != shown["what"] or time.monotonic() - shown["at"] > _PLAIN_SECONDS:
            shown.update(at=time.monotonic(), what=what)
            say(text)

    def job(job: Job) -> None:
        percent = job["progress"]["percent"]
        share = "" if percent is None else f" {percent:.1f} %"
        show(job["status"], f"{job['status']}{share} {_said(job)}".rstrip(), last=False)

    def bytes_(done: int, total: int) -> None:
        show("downloading", f"downloading {decimal(done)} of {decimal(total)}", last=done == total)

    return _Display(job, bytes_)


def _said(job: Job) -> str:
    found = job["progress"]
    about = "about " if found["rows_total_is_estimate"] else ""
    of = f" of {about}{found['rows_total']:,}" if found["rows_total"] is not None else ""
    left = f", {found['eta_seconds']:,} s left" if found["eta_seconds"] else ""
    return f"{found['rows_done']:,}{of} rows, {decimal(found['bytes'])}{left}" if found["rows_done"] else ""
