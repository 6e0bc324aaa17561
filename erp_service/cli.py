"""The erp command."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Literal

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from erp_service import errors, schema, settings, up, verify
from erp_service.app import create_app
from erp_service.auth import passwords
from erp_service.auth.service import create_user
from erp_service.cli_export import export_command
from erp_service.cli_queue import queue_group
from erp_service.db import Database, wait_until_up
from erp_service.documents import mended
from erp_service.inventory.loading import load
from erp_service.principals import system
from erp_service.roles import Role
from erp_service.serving import serve
from erp_service.settings import Settings, SettingsError
from erp_service.terminal import entered_password, say, told
from erp_service.working import work

WAIT_SECONDS = 300.0
"""How long a command waits for the database at its start: longer than a server takes to recover from a crash."""

SHORT_WAIT_SECONDS = 20.0
"""The same of a command that a person waits for: a name that is not resolved at once, a server that restarts."""

_COLUMNS = (TextColumn("{task.description:<12}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="erp-service")
def main() -> None:
    """The ERP back end that a small business can run itself: one Postgres, any number of identical instances.

    \b
    On one machine:      erp up
    In containers:       erp migrate, then any number of erp serve and erp worker
    As a client:         erp export stock_movements -o movements.csv

    Everything is set by variables ERP_...: `erp settings` lists them with their meaning.
    """
    if os.getpid() == 1:
        # as the first process of a container: the kernel hands it no signal for which it has no handler
        signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))


@main.command("up")
@click.option("--port", default=8000, show_default=True, help="Where the API listens, on 127.0.0.1.")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".erp"),
    show_default=True,
    help="Holds the database, export files and secrets.",
)
@click.option("--no-demo", is_flag=True, help="Start with no items instead of a small trading company's stock.")
def up_command(port: int, data_dir: Path, *, no_demo: bool) -> None:
    """Run everything on this machine, in the foreground, in development mode.

    Starts an embedded PostgreSQL (or uses ERP_DATABASE_URL), migrates it, makes a first SUPER_ADMIN whose password is
    printed once, loads demo stock, and runs the API and one worker until Ctrl-C.
    """
    with told():
        sys.exit(up.run(port=port, data_dir=data_dir, with_demo=not no_demo, say=say))


@main.command("serve")
def serve_command() -> None:
    """Run one instance of the API.

    Any number may run on one database. SIGTERM: not ready at once, serves on for ERP_DRAIN_SECONDS, then stops.
    """
    with told():
        sys.exit(serve(settings.load()))


@main.command("worker")
def worker_command() -> None:
    """Run one worker: exports and upkeep.

    Any number may run on one database. SIGTERM: takes no new job, waits ERP_GRACE_SECONDS for those in hand, and puts
    the rest back. The same as: procrastinate --app=erp_service.worker.app worker
    """
    with told():
        sys.exit(work(settings.load(), WAIT_SECONDS))


@main.command("migrate")
def migrate_command() -> None:
    """Bring the database to what this version needs; does nothing if it is there already.

    Uses ERP_MIGRATION_DATABASE_URL, the owner's address, or else ERP_DATABASE_URL.
    """
    with told():
        loaded = settings.load()
        url = loaded.migration_database_url or loaded.listen_url
        asyncio.run(_migrate(url))
        say("The database is up to date.")


async def _migrate(url: str) -> None:
    await wait_until_up(url, seconds=WAIT_SECONDS)
    await schema.migrate(url)


@main.command("create-user")
@click.argument("email")
@click.option("--role", type=click.Choice([role.value for role in Role]), required=True)
@click.option("--name", default="", help="The full name; the e-mail if left out.")
def create_user_command(email: str, role: str, name: str) -> None:
    """Make a user. Asks for the password, or reads it from standard input when that is no terminal."""
    with told():
        password = entered_password(confirm=True)
        if faults := passwords.faults(password, email):
            raise errors.Invalid("The password " + ", and ".join(faults) + ".")
        user_id = asyncio.run(_create_user(settings.load(), email, name or email, Role(role), password))
        say(f"Made user {user_id}: {email}, {role}.")


async def _create_user(loaded: Settings, email: str, name: str, role: Role, password: str) -> int:
    await wait_until_up(loaded.listen_url, seconds=SHORT_WAIT_SECONDS)
    password_hash = passwords.hashed(password)
    database = Database(loaded, name="erp create-user")
    try:
        async with database.write() as db:
            made = await create_user(
                db, system("erp create-user"), email=email, full_name=name, role=role, password_hash=password_hash
            )
            return made.id
    finally:
        await database.close()


@main.command("import")
@click.argument("kind", type=click.Choice(["items", "locations", "movements"]))
@click.argument("file")
def import_command(kind: Literal["items", "locations", "movements"], file: str) -> None:
    """Load a CSV file, all of it or nothing; `-` reads standard input; .xz, .gz and .zst are unpacked.

    \b
    items      sku, name, unit [, status, description, reorder_point]
    locations  code, name, location_type [, address, parent, allow_negative_stock]
    movements  occurred_at, type, sku, location, quantity [, to_location, unit_cost, reference_no, notes, reason]

    Bad lines are named. The same content is refused a second time.
    """
    with told(), Progress(*_COLUMNS, console=Console(stderr=True), transient=False) as bar:
        loaded = settings.load()
        task = bar.add_task("reading", total=None)

        def show(done: int, total: int, phase: str) -> None:
            bar.update(task, description=phase, completed=done, total=total or None)

        url = loaded.migration_database_url or loaded.listen_url
        result = asyncio.run(load(url, kind, file, who=system("erp import"), progress=show))
    say(f"Imported {result.rows:,} {kind}.")


main.add_command(export_command)
main.add_command(queue_group)


@main.command("verify")
def verify_command() -> None:
    """Prove the books, and end with status 1 and the rows at fault if they do not hold."""
    with told():
        loaded = settings.load()
        findings = asyncio.run(_verify(loaded))
        for finding in findings:
            click.echo(str(finding))
        if findings:
            sys.exit(1)
        say("The books hold.")


async def _verify(loaded: Settings) -> list[verify.Finding]:
    await wait_until_up(loaded.listen_url, seconds=SHORT_WAIT_SECONDS)
    return await verify.verify(loaded)


@main.command("settings")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def settings_command(*, as_json: bool) -> None:
    """Every setting with its meaning, default and present value; secrets are masked."""
    fault: SettingsError | None = None
    try:
        loaded = settings.load()
    except SettingsError as exc:
        loaded, fault = None, exc
    lines = list(settings.describe(loaded))
    if as_json:
        click.echo(json.dumps([{f: getattr(line, f) for f in line.__struct_fields__} for line in lines], indent=2))
    else:
        table = Table("variable", "value", "default", "meaning", box=None, pad_edge=False)
        for line in lines:
            table.add_row(line.variable, line.value or "", line.default or "", line.meaning)
        Console(width=None if sys.stdout.isatty() else 200).print(table)
    if fault is not None:
        say(f"\nerp: {fault}")
        sys.exit(1)


@main.command("openapi")
def openapi_command() -> None:
    """Print the OpenAPI 3.1 document, for client generators and contract tests.

    It is the one that a running service has at /schema/openapi.json. Needs no database and no settings.
    """
    # the document is the same whatever the settings; no token is ever signed with this
    bare = Settings(database_url="postgresql://", jwt_secret="0123456789abcdefghijklmnopqrstuvwxyz")  # noqa: S106
    document = mended(create_app(bare).openapi_schema.to_schema())
    click.echo(json.dumps(document, indent=2))
