"""Importing a file in a test."""

from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from erp_service.imports.files.faults import ImportRefused
from erp_service.imports.service import Loaded

Load = Callable[..., Awaitable[Loaded]]
"""Takes the kind of the file and its content, then what service.load takes."""


async def refused(service: Awaitable[Loaded]) -> list[str]:
    """The faults for which the import is refused."""
    with pytest.raises(ImportRefused) as caught:
        await service
    assert caught.value.total >= len(caught.value.faults) > 0
    return [str(fault) for fault in caught.value.faults]


async def emptied(owner: asyncpg.Connection) -> None:
    await owner.execute(
        "set session_replication_role = replica;"  # without triggers
        "truncate items, locations, stock_balances, stock_values, stock_ledger, stock_transactions, imports"
        " restart identity cascade;"
        "reset session_replication_role"
    )
