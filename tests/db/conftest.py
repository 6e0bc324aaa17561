"""What tests of several servers share."""

from collections.abc import Iterator

import pytest

from tests.support.failover import forgetting


@pytest.fixture
def own_leaders() -> Iterator[None]:
    """A copy that is promoted here has the system identifier of the server that all tests use."""
    with forgetting():
        yield
