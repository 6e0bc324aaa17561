"""`erp verify`: do the books hold?"""

import asyncio
import sys

import click

from erp_service import settings
from erp_service.commands.database import SHORT_WAIT_SECONDS, exit_on_error
from erp_service.commands.terminal import say
from erp_service.db.connections import wait_until_up
from erp_service.operations import verify
from erp_service.registry.proofs import Finding
from erp_service.settings import Settings


@click.command("verify")
def command() -> None:
    """Prove the books, and end with status 1 and the rows at fault if they do not hold."""
    with exit_on_error():
        loaded = settings.load()
        findings = asyncio.run(_verify(loaded))
        for finding in findings:
            click.echo(str(finding))
        if findings:
            sys.exit(1)
        say("The books hold.")


async def _verify(loaded: Settings) -> list[Finding]:
    await wait_until_up(loaded.listen_url, seconds=SHORT_WAIT_SECONDS)
    return await verify.verify(loaded)
