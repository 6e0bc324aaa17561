"""Generated requests one after another: what one makes, the next ones read, change and delete."""

from pathlib import Path

import asyncpg
import pytest

from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.settings import Settings
from tests.acceptance.instances import instance, signed_in
from tests.fuzz.fuzzing import SETTINGS, SIGN_INS, SOMEBODY, fuzz, make_caller
from tests.support.users import token_of

OTHERS = ("--exclude-path-regex", f"{SETTINGS}|{SIGN_INS}")


@pytest.mark.parametrize("role", Role)
async def test_chains_of_requests_find_nothing(
    role: Role, settings: Settings, tmp_path: Path, owner: asyncpg.Connection
) -> None:
    await make_caller(owner, role)
    async with instance(settings, tmp_path / "log") as process:
        await fuzz(process, token_of(settings, SOMEBODY), tmp_path, "stateful", *OTHERS, examples=10)


async def test_chains_of_requests_with_a_key_find_nothing(
    settings: Settings, tmp_path: Path, owner: asyncpg.Connection
) -> None:
    await make_caller(owner, Role.SUPER_ADMIN)
    async with instance(settings, tmp_path / "log") as process:
        async with signed_in(process, settings, SOMEBODY) as person:
            body = {"name": "Fuzzer", "role": "ADMIN", "scopes": [*Scope]}
            key = (await person.post("/api/v1/api-keys", json=body)).raise_for_status().json()["key"]
        await fuzz(process, key, tmp_path, "stateful", *OTHERS, examples=10)
