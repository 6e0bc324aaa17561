"""What tests of several servers share."""

import pytest

from erp_service.db import servers
from erp_service.db.leaders import Leaders


@pytest.fixture
def own_leaders(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is met in this test counts in it alone. A copy that is promoted here has the system identifier of the server
    that all tests use, and once this process had met it, it would never use that server again."""
    monkeypatch.setattr(servers, "LEADERS", Leaders())
