"""`erp verify`: checks whether the books hold."""

import asyncio
import sys

import click

from erp_service.commands.database import SHORT_WAIT_SECONDS, exit_on_error
from erp_service.commands.terminal import say
from erp_service.db.connections import wait_until_up
from erp_service.operations.verify import verify
from erp_service.registry.proofs import Finding
from erp_service.settings import Settings, load


@click.command("verify")
def command() -> None:
    """Check that the books hold; if they do not, print the rows at fault and exit with status 1."""
    with exit_on_error():
        findings = asyncio.run(_verify(load()))
        for finding in findings:
            click.echo(str(finding))
        if findings:
            sys.exit(1)
        say("The books hold.")


async def _verify(settings: Settings) -> list[Finding]:
    await wait_until_up(settings.listen_url, seconds=SHORT_WAIT_SECONDS)
    return await verify(settings)
