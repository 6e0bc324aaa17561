"""The OpenAPI document and the service agree, tested with generated requests."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import httpx
import pytest

from erp_service.access.roles import Role
from erp_service.settings import Settings
from tests.acceptance.fuzzing import SOMEBODY, fuzz, make_caller
from tests.acceptance.instances import Process, instance
from tests.support.users import token_of


@pytest.fixture
async def service(settings: Settings, tmp_path: Path, owner: asyncpg.Connection) -> AsyncIterator[tuple[Process, str]]:
    await make_caller(owner, Role.SUPER_ADMIN)
    async with instance(settings, tmp_path / "log") as process:
        yield process, token_of(settings, SOMEBODY)


async def test_schemathesis_finds_nothing(service: tuple[Process, str], tmp_path: Path) -> None:
    process, token = service
    await asyncio.to_thread(fuzz, process, token, tmp_path, "examples,coverage,fuzzing", examples=12)


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
