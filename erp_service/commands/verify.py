"""`erp verify`: checks whether the books hold."""

import asyncio
import sys
import time
from collections.abc import Sequence

import click

from erp_service.audit.sealing.heads import NoHead, head_proof
from erp_service.commands.database import SHORT_WAIT_SECONDS, exit_on_error, wait_for_database
from erp_service.commands.terminal import FAILED, say
from erp_service.db.outages import DATABASE_ERRORS
from erp_service.observability.exception_text import reason
from erp_service.operations.state.record import record_verification
from erp_service.operations.verify import Checked, all_proofs, count, verify
from erp_service.registry.proofs import Finding
from erp_service.settings import Settings, load


@click.command("verify")
@click.option(
    "--head",
    "heads",
    multiple=True,
    metavar="FILE|POSITION:LINK",
    help="A head of the trail that was kept elsewhere, or a file with one on each line: the trail must still have it."
    " May be given several times.",
)
def command(heads: tuple[str, ...]) -> None:
    """Check that the books hold; if they do not, print the rows at fault and exit with status 1.

    Says of each proof what it proves, how many rows are at fault, and how long it took, on standard error. The rows at
    fault go to standard output. Changes nothing in the books, and may run beside the service. Leaves a record of the
    run in the database: when, how long, how many proofs, and whether the books hold. If it cannot, as on a standby, it
    says so, and the exit status stays what it is.

    \b
    Exit status:
      0    every proof holds
      1    one does not, or the database, the export files or the heads cannot
           be read
      2    the command line is wrong, or a file of heads holds something else
    """
    with exit_on_error():
        settings, start = load(), time.monotonic()
        checked: list[Checked] = []
        try:
            findings = asyncio.run(_verify(settings, heads, checked))
        except NoHead as exc:
            raise click.BadParameter(str(exc), param_hint="--head") from None
        for finding in findings:
            click.echo(str(finding))
        seconds = time.monotonic() - start
        asyncio.run(_record(settings, seconds, len(checked), len(findings)))
        if findings:
            say(f"The books do not hold: {len(findings)} of {len(checked)} proofs fail, in {seconds:.1f} s.")
            sys.exit(FAILED)
        say(f"The books hold. {len(checked)} proofs, in {seconds:.1f} s.")


async def _record(settings: Settings, seconds: float, proofs: int, failed: int) -> None:
    why = "it is a copy that follows another one"
    try:
        if await record_verification(settings, seconds=seconds, proofs=proofs, failed=failed):
            return
    except DATABASE_ERRORS as exc:
        why = reason(exc)
    say(f"No record of this run was left in the database: {why}")


async def _verify(settings: Settings, heads: Sequence[str], checked: list[Checked]) -> list[Finding]:
    await wait_for_database(settings.listen_url, seconds=SHORT_WAIT_SECONDS)
    counts = await count(settings)
    say("Checking " + ", ".join(f"{number:,} {name}" for name, number in counts.items()) + ".")

    def report(proof: Checked) -> None:
        checked.append(proof)
        outcome = f"{proof.at_fault:,} at fault" if proof.at_fault else "holds"
        say(f"{outcome:<12}{proof.seconds:6.1f} s  {proof.proof}: {proof.holds}")

    return await verify(settings, [*all_proofs(), *([head_proof(heads)] if heads else [])], report)
