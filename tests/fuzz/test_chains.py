"""Generated requests one after another: what one makes, the next ones read, change and delete."""

import asyncio
from pathlib import Path

import asyncpg
import pytest

from erp_service.access.roles import Role
from erp_service.settings import Settings
from tests.acceptance.fuzzing import SOMEBODY, fuzz, make_caller
from tests.acceptance.instances import instance
from tests.support.users import token_of


@pytest.mark.parametrize("role", Role)
async def test_chains_of_requests_find_nothing(
    role: Role, settings: Settings, tmp_path: Path, owner: asyncpg.Connection
) -> None:
    """What one request makes, the next ones read, change and delete, with each role."""
    await make_caller(owner, role)
    async with instance(settings, tmp_path / "log") as process:
        await asyncio.to_thread(fuzz, process, token_of(settings, SOMEBODY), tmp_path, "stateful", examples=10)
