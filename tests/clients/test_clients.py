"""The document under the rules of two linters, and five generated clients on the tour of README.md."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from erp_service.access.roles import Role
from erp_service.auth.passwords import hashed
from erp_service.db.engine import Database
from erp_service.settings import Settings
from tests.acceptance.instances import instance, worker
from tests.clients.generators import GENERATORS, Generator, node, run
from tests.support.users import make_user
from tests.web.openapi import DOCUMENT

EMAIL, PASSWORD = "integrator@example.com", "a long walk by the sea"


@pytest.fixture
def document(tmp_path: Path) -> Path:
    path = tmp_path / "openapi.json"
    path.write_text(json.dumps(DOCUMENT))
    return path


@pytest.fixture
async def tour(settings: Settings, database: Database, tmp_path: Path) -> AsyncIterator[dict[str, str]]:
    """A service for one client: an instance and a worker, and how to reach them."""
    await make_user(database, Role.ADMIN, EMAIL, hashed(PASSWORD))
    async with instance(settings, tmp_path / "log") as process, worker(settings, tmp_path / "worker.log"):
        yield {"TOUR_URL": process.url, "TOUR_EMAIL": EMAIL, "TOUR_PASSWORD": PASSWORD}


def test_redocly_recommends_nothing(document: Path) -> None:
    said = run(
        [node("redocly"), "lint", str(document), "--extends", "recommended", "--format", "json"], document.parent
    )
    assert json.loads(said[said.index("{") : said.rindex("}") + 1])["totals"] == {
        "errors": 0,
        "warnings": 0,
        "ignored": 0,
    }


def test_spectral_recommends_nothing(document: Path) -> None:
    rules = Path(__file__).with_name("spectral.yaml")
    run([node("spectral"), "lint", str(document), "--ruleset", str(rules), "--fail-severity", "hint"], document.parent)


@pytest.mark.parametrize("generator", GENERATORS, ids=lambda generator: generator.name)
async def test_a_generated_client_takes_the_tour(
    generator: Generator, document: Path, tour: dict[str, str], tmp_path: Path
) -> None:
    directory = tmp_path / "generated"
    directory.mkdir()
    generator.generate(document, directory)
    generator.check(directory)
    assert "the tour is complete" in generator.run_tour(directory, tour)
