"""The OpenAPI document as a running instance serves it. Whether the answers keep to it: tests/fuzz."""

from pathlib import Path

import httpx

from erp_service.settings import Settings
from tests.acceptance.instances import instance


async def test_the_document_is_openapi_3_1_with_every_problem(settings: Settings, tmp_path: Path) -> None:
    async with (
        instance(settings, tmp_path / "log") as process,
        httpx.AsyncClient(base_url=process.url) as client,
    ):
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
