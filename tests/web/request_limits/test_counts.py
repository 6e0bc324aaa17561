"""The statement that meets demands, against the model that test_leases.py trusts."""

import asyncio
from datetime import datetime

import asyncpg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from erp_service.db.engine import Database
from erp_service.web.request_limits import counts
from erp_service.web.request_limits.leases import Demand, Grant
from tests.web.request_limits.model import SharedCounts

SECONDS = 3600.0
KEYS = ["user:1", "user:2", "key:1"]

demands = st.lists(
    st.builds(
        Demand,
        key=st.sampled_from(KEYS),
        most=st.integers(0, 60),
        waiting=st.integers(0, 20),
        ahead=st.integers(0, 60),
        unused=st.integers(0, 10),
        window=st.none(),
    ),
    min_size=1,
    unique_by=lambda demand: demand.key,
)


async def settled(database: Database, demands: list[Demand]) -> dict[str, Grant]:
    async with database.autocommit() as db:
        return {grant.key: grant for grant in await counts.settle(db, demands, seconds=SECONDS)}


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(demands, st.booleans(), st.sets(st.sampled_from(KEYS))), max_size=8))
async def test_statement_grants_what_the_model_does(
    database: Database, owner: asyncpg.Connection, steps: list[tuple[list[Demand], bool, set[str]]]
) -> None:
    """Over windows that end (`over`) and uses that are given back, to the present window and to others."""
    await owner.execute("delete from rate_limits")
    model = SharedCounts(SECONDS)
    real_windows: dict[str, datetime] = {}
    model_windows: dict[str, datetime] = {}
    for wanted, is_of_this_window, over in steps:
        for key in over & real_windows.keys():
            await owner.execute("update rate_limits set resets_at = now() where key = $1", key)
            model.counts[key] = model.counts[key]._replace(resets_at=model.now)
        windows = (real_windows, model_windows) if is_of_this_window else ({}, {})
        real = await settled(database, [one._replace(window=windows[0].get(one.key)) for one in wanted])
        same = model.settle([one._replace(window=windows[1].get(one.key)) for one in wanted])
        assert {key: (grant.granted, grant.taken) for key, grant in real.items()} == {
            grant.key: (grant.granted, grant.taken) for grant in same
        }
        real_windows |= {key: grant.window for key, grant in real.items()}
        model_windows |= {grant.key: grant.window for grant in same}


async def test_demands_of_several_instances_at_once_do_not_wait_for_each_other_for_ever(database: Database) -> None:
    """Each names the same callers in another order. Never more is granted than the limit, and in the end all of it."""
    keys = [f"user:{number}" for number in range(40)]
    orders = [keys, keys[::-1], keys[20:] + keys[:20], keys[10:] + keys[:10]] * 5
    answers = await asyncio.gather(
        *(settled(database, [Demand(key, 50, 3, 20, 0, None) for key in order]) for order in orders)
    )
    for key in keys:
        assert sum(answer[key].granted for answer in answers) == 50
        assert {answer[key].window for answer in answers} == {answers[0][key].window}
