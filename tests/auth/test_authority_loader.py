"""Many who ask at once what users may do are answered together, and never with what was so before they asked."""

import asyncio

import pytest

from erp_service.access.principals import Authority
from erp_service.access.roles import Role
from erp_service.auth import queries
from erp_service.auth.authority.loader import AuthorityLoader
from erp_service.db.engine import Database
from erp_service.db.sessions import Session
from tests.support.users import make_user


class Asked:
    """Stands between, to hold look-ups where a test wants them, and counts them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.batches: list[list[int]] = []
        self.gate, self.reached = asyncio.Event(), asyncio.Event()
        self.gate.set()
        self.fault: Exception | None = None
        real = queries.authorities

        async def authorities(db: Session, user_ids: list[int]) -> dict[int, Authority]:
            self.batches.append(user_ids)
            self.reached.set()
            found = await real(db, user_ids)
            await self.gate.wait()
            if self.fault:
                raise self.fault
            return found

        monkeypatch.setattr(queries, "authorities", authorities)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    return Asked(monkeypatch)


async def test_who_asks_at_once_is_answered_by_one_query(database: Database, asked: Asked) -> None:
    lookups, ids = AuthorityLoader(database.read), [await make_user(database, role) for role in Role]
    found = await asyncio.gather(*(lookups.load(user_id) for user_id in [*ids, *ids, 10**9]))
    assert [one and one.role for one in found] == [*Role, *Role, None]
    assert [sorted(batch) for batch in asked.batches] == [[*ids, 10**9]]


async def test_who_asks_while_another_is_being_answered_does_not_get_the_answer_of_before(
    database: Database, asked: Asked
) -> None:
    lookups, user_id = AuthorityLoader(database.read), await make_user(database, Role.ADMIN)
    asked.gate.clear()
    before = asyncio.create_task(lookups.load(user_id))
    await asked.reached.wait()
    after = asyncio.create_task(lookups.load(user_id))
    await asyncio.sleep(0)
    asked.gate.set()
    await asyncio.gather(before, after)
    assert asked.batches == [[user_id], [user_id]]


async def test_a_fault_is_told_to_all_who_asked_and_to_nobody_later(database: Database, asked: Asked) -> None:
    lookups, user_id = AuthorityLoader(database.read), await make_user(database, Role.ADMIN)
    asked.fault = ConnectionError("away")
    told = await asyncio.gather(*(lookups.load(user_id) for _ in range(3)), return_exceptions=True)
    assert [type(one) for one in told] == [ConnectionError] * 3
    asked.fault = None
    assert await lookups.load(user_id) == Authority(user_id, Role.ADMIN, active=True, version=1)


async def test_who_gives_up_takes_the_answer_from_nobody(database: Database, asked: Asked) -> None:
    lookups, user_id = AuthorityLoader(database.read), await make_user(database, Role.ADMIN)
    asked.gate.clear()
    impatient, patient = (asyncio.create_task(lookups.load(user_id)) for _ in range(2))
    await asked.reached.wait()
    impatient.cancel()
    asked.gate.set()
    assert await patient is not None
    with pytest.raises(asyncio.CancelledError):
        await impatient
