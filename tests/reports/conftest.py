"""The reports stand on the stock that tests of the inventory make."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, event

from tests.inventory.conftest import plans as plans
from tests.inventory.conftest import post as post


@pytest.fixture
def statements() -> Iterator[list[str]]:
    """What SQLAlchemy sends."""
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    yield sent
    event.remove(Engine, "before_cursor_execute", note)
