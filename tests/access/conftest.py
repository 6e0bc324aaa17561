"""Two instances: a right that one of them takes away must be gone on the other."""

from collections.abc import AsyncIterator

import pytest

from erp_service.settings import Settings
from tests.support.apps import Instances, two_instances


@pytest.fixture
async def two(settings: Settings) -> AsyncIterator[Instances]:
    async with two_instances(settings) as two:
        yield two
