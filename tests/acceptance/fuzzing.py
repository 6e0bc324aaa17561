"""Schemathesis against a running instance."""

import subprocess
import sys
from pathlib import Path

import asyncpg

from erp_service.access.roles import Role
from tests.acceptance.instances import Process

# An id that no generated request will meet: the caller must not lock itself out.
SOMEBODY = 4_611_686_018_427

# For positive_data_acceptance see schemathesis_checks.py, which is narrower than leaving it out.
EXCLUDED = "positive_data_acceptance"
HOOKS = Path(__file__).with_name("schemathesis_checks.py")


async def make_caller(owner: asyncpg.Connection, role: Role) -> None:
    await owner.execute(
        "insert into users (id, email, full_name, role, password_hash) overriding system value"
        f" values ({SOMEBODY}, 'fuzzer@example.com', 'Fuzzer', '{role}', '!'),"
        f" ({SOMEBODY} + 1, 'second@example.com', 'The other', 'SUPER_ADMIN', '!')"
    )


def fuzz(process: Process, token: str, directory: Path, phases: str, *, examples: int) -> None:
    """Run schemathesis; AssertionError with its report if it finds anything."""
    program = Path(sys.executable).with_name("schemathesis")
    command = [
        str(program), "run", f"{process.url}/schema/openapi.json",
        "--header", f"Authorization: Bearer {token}",
        "--checks", "all", "--exclude-checks", EXCLUDED,
        "--phases", phases,
        "--max-examples", str(examples), "--seed", "1", "--workers", "2", "--no-color",
        "--suppress-health-check", "all",
    ]  # fmt: skip
    (directory / "schemathesis.toml").write_text(f'hooks = "{HOOKS}"\n')
    with (directory / "report").open("w") as report:
        done = subprocess.run(command, stdout=report, stderr=subprocess.STDOUT, cwd=directory, timeout=500)
    said = (directory / "report").read_text()
    assert done.returncode == 0, said[-12_000:]
    faults = [line for line in process.log.read_text().splitlines() if "unhandled" in line]
    assert not faults
