"""Schemathesis against a running instance."""

import asyncio
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import asyncpg

from erp_service.access.roles import Role
from tests.acceptance.instances import Process

# An id that no generated request will meet: the caller must not lock itself out.
SOMEBODY = 4_611_686_018_427

SETTINGS = "^/api/v1/settings$"
"""The company's settings change what all other requests may do, so they are tried by themselves."""

SIGN_INS = "^/api/v1/auth/(logout|sessions)"
"""These end the sign-in of all requests that follow."""

# For positive_data_acceptance see schemathesis_checks.py, which is narrower than leaving it out.
EXCLUDED = "positive_data_acceptance"
HOOKS = Path(__file__).with_name("schemathesis_checks.py")

# beside what it expects by itself, a bad body may be too large (413), or come with an `If-Match` that is stale (412)
CONFIGURATION = f"""
hooks = "{HOOKS}"
[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 406, 409, 412, 413, 415, 422, 428, 429, "5xx"]
"""


async def make_caller(owner: asyncpg.Connection, role: Role) -> None:
    """With a second factor, in case that the generated settings ask for one."""
    await owner.execute(
        "insert into users (id, email, full_name, role, password_hash, second_factor_since)"
        " overriding system value values"
        f" ({SOMEBODY}, 'fuzzer@example.com', 'Fuzzer', '{role}', '!', now()),"
        f" ({SOMEBODY} + 1, 'second@example.com', 'The other', 'SUPER_ADMIN', '!', now())"
    )


async def fuzz(process: Process, token: str, directory: Path, phases: str, *options: str, examples: int) -> None:
    """Run schemathesis; AssertionError with its report if it finds anything."""
    await asyncio.to_thread(_fuzz, process, token, directory, phases, options, examples)


def _fuzz(process: Process, token: str, directory: Path, phases: str, options: Sequence[str], examples: int) -> None:
    program = Path(sys.executable).with_name("schemathesis")
    command = [
        str(program), "run", f"{process.url}/schema/openapi.json",
        "--header", f"Authorization: Bearer {token}",
        "--checks", "all", "--exclude-checks", EXCLUDED,
        "--phases", phases, *options,
        # with two, threads of CPython 3.11 disturb each other's compiler now and then
        "--workers", "1",
        "--max-examples", str(examples), "--seed", "1", "--no-color",
        "--suppress-health-check", "all",
    ]  # fmt: skip
    (directory / "schemathesis.toml").write_text(CONFIGURATION)
    with (directory / "report").open("w") as report:
        done = subprocess.run(command, stdout=report, stderr=subprocess.STDOUT, cwd=directory, timeout=500)
    said = (directory / "report").read_text()
    assert done.returncode == 0, said[-12_000:]
    faults = [line for line in process.log.read_text().splitlines() if "unhandled" in line]
    assert not faults
