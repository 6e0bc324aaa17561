"""Users who can sign in, and two instances."""

from collections.abc import AsyncIterator

import pytest

from erp_service.access.roles import Role
from erp_service.db.engine import Database
from erp_service.settings import Settings
from tests.auth.people import HASH, Join, Person
from tests.support.apps import Instances, two_instances
from tests.support.users import make_user


@pytest.fixture
async def join(database: Database) -> Join:
    """`await join(Role.STAFF, "grace@example.com")`: somebody whose password is PASSWORD."""

    async def join(role: Role = Role.VIEWER, email: str = "grace@example.com") -> Person:
        return Person(await make_user(database, role, email, HASH), email)

    return join


@pytest.fixture
async def two(settings: Settings) -> AsyncIterator[Instances]:
    async with two_instances(settings) as two:
        yield two
