"""The OpenAPI document and the service agree, tested with generated requests."""

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import httpx
import pytest

from erp_service.settings import Settings
from tests.acceptance.instances import Process, instance
from tests.support.users import token_of

# An id that no generated request will meet: the caller must not lock itself out.
SOMEBODY = 4_611_686_018_427

# For positive_data_acceptance see schemathesis_checks.py, which is narrower than leaving it out.
EXCLUDED = "positive_data_acceptance"
HOOKS = Path(__file__).with_name("schemathesis_checks.py")


@pytest.fixture
async def service(settings: Settings, tmp_path: Path, owner: asyncpg.Connection) -> AsyncIterator[tuple[Process, str]]:
    await owner.execute(
        "insert into users (id, email, full_name, role, password_hash) overriding system value"
        f" values ({SOMEBODY}, 'fuzzer@example.com', 'Fuzzer', 'SUPER_ADMIN', '!'),"
        f" ({SOMEBODY} + 1, 'second@example.com', 'The other', 'SUPER_ADMIN', '!')"
    )
    async with instance(settings, tmp_path / "log") as process:
        yield process, token_of(settings, SOMEBODY)


async def test_schemathesis_finds_nothing(service: tuple[Process, str], tmp_path: Path) -> None:
    process, token = service
    program = Path(sys.executable).with_name("schemathesis")
    command = [
        str(program), "run", f"{process.url}/schema/openapi.json",
        "--header", f"Authorization: Bearer {token}",
        "--checks", "all", "--exclude-checks", EXCLUDED,
        "--phases", "examples,coverage,fuzzing",
        "--max-examples", "12", "--seed", "1", "--workers", "2", "--no-color",
        "--suppress-health-check", "all",
    ]  # fmt: skip
    (tmp_path / "schemathesis.toml").write_text(f'hooks = "{HOOKS}"\n')
    with (tmp_path / "report").open("w") as report:
        done = subprocess.run(command, stdout=report, stderr=subprocess.STDOUT, cwd=tmp_path, timeout=500)
    said = (tmp_path / "report").read_text()
    assert done.returncode == 0, said[-12_000:]
    faults = [line for line in process.log.read_text().splitlines() if "unhandled" in line]
    assert not faults


async def test_the_document_is_openapi_3_1_with_every_problem(service: tuple[Process, str]) -> None:
    process, _ = service
    async with httpx.AsyncClient(base_url=process.url) as client:
        document = (await client.get("/schema/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            where = f"{method} {path}"
            assert operation["summary"], where
            assert "No token is needed" in operation["description"] or "Least role" in operation["description"], where
            problems = {
                status
                for status, answer in operation["responses"].items()
                if "application/problem+json" in answer.get("content", {})
            }
            if method == "head":
                assert not problems, "an answer to HEAD has no body"
                continue
            assert {"422", "500", "503"} <= problems, where
            if "Least role" in operation["description"]:
                assert "401" in problems, where
