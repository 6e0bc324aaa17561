"""The OpenAPI document and the service agree: each operation by itself, with generated requests."""

from pathlib import Path

import asyncpg
import pytest

from erp_service.access.roles import Role
from erp_service.settings import Settings
from tests.acceptance.instances import instance
from tests.fuzz.fuzzing import SETTINGS, SIGN_INS, SOMEBODY, fuzz, make_caller
from tests.support.users import token_of

STOCK = "^/api/v1/inventory/"
PARTS = {
    "stock": ("--include-path-regex", STOCK),
    "settings": ("--include-path-regex", SETTINGS),
    "sign-ins": ("--include-path-regex", SIGN_INS),
    "rest": ("--exclude-path-regex", f"{STOCK}|{SETTINGS}|{SIGN_INS}"),
}


@pytest.mark.parametrize("part", PARTS)
async def test_generated_requests_find_nothing(
    part: str, settings: Settings, tmp_path: Path, owner: asyncpg.Connection
) -> None:
    await make_caller(owner, Role.SUPER_ADMIN)
    async with instance(settings, tmp_path / "log") as process:
        token = token_of(settings, SOMEBODY)
        await fuzz(process, token, tmp_path, "examples,coverage,fuzzing", *PARTS[part], examples=12)
