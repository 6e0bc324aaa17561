"""The stock that reports are made of, and the statements that they send."""

from collections.abc import Iterator

import asyncpg
import pytest

from erp_service.db.engine import Database
from tests.inventory.posting import Post, posting
from tests.support.statements import Plans, Statement, plans_of_statements, sent_statements


@pytest.fixture
def post(database: Database) -> Post:
    return posting(database)


@pytest.fixture
def plans(owner: asyncpg.Connection) -> Iterator[Plans]:
    with plans_of_statements(owner) as plans:
        yield plans


@pytest.fixture
def statements() -> Iterator[list[Statement]]:
    with sent_statements() as sent:
        yield sent
