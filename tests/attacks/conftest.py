"""One target for all attacks: two instances and a worker behind the balancer, and a user who works there meanwhile."""

import os
from collections.abc import AsyncIterator, Callable

import pytest
from _pytest.terminal import TerminalReporter

from erp_service.access.roles import Role
from erp_service.auth.passwords import hashed
from erp_service.db.engine import Database
from erp_service.standalone.postgres import Cluster
from tests.acceptance.instances import instance, worker
from tests.attacks.balancer import balanced
from tests.attacks.bystander import Bystander, bystander
from tests.attacks.target import BYTES_PER_USER, EMAIL, FACTOR, PASSWORD, Attack, Harmless, Target, medians
from tests.support.company import set_company
from tests.support.databases import as_owner, value_of
from tests.support.settings import settings_for
from tests.support.users import make_user, token_of

SETTINGS = {
    "ERP_TRUSTED_PROXIES": "127.0.0.1",
    # the default, which other tests set aside
    "ERP_SIGN_INS_PER_ACCOUNT": "20",
}
ROWS = 20_000
PROPERTY = "median request of others"


@pytest.fixture(scope="session")
async def target(cluster: Cluster, template: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Target]:
    directory = tmp_path_factory.mktemp("target")
    name = f"target_{os.getpid()}"
    await as_owner(cluster, f'create database "{name}" template "{template}"')
    settings = settings_for(cluster, name, directory)
    await as_owner(
        cluster,
        "insert into items (sku, name, unit, description) select 'SKU-' || n, 'Item ' || n, 'PCS', repeat('words ', 20)"
        f" from generate_series(1, {ROWS}) n",
        "insert into locations (code, name, location_type) values ('MAIN', 'Main', 'WAREHOUSE')",
        database=name,
    )
    item = await value_of(cluster, "select min(id) from items", database=name)
    location = await value_of(cluster, "select id from locations", database=name)
    assert isinstance(item, int)
    assert isinstance(location, int)
    database = Database(settings, name="erp test")
    roles = (Role.VIEWER, Role.VIEWER, Role.STAFF, Role.ADMIN)
    viewer, greedy, staff, admin = [token_of(settings, await make_user(database, role)) for role in roles]
    super_admin = token_of(settings, await make_user(database, Role.SUPER_ADMIN, EMAIL, hashed(PASSWORD)))
    # the defaults, which other tests set aside
    quotas = {"export_submissions_per_hour": None, "export_downloads_per_minute": None}
    await set_company(database, export_bytes_per_user=BYTES_PER_USER, **quotas)
    await database.close()
    async with (
        instance(settings, directory / "i1.log", **SETTINGS) as one,
        instance(settings, directory / "i2.log", **SETTINGS) as two,
        worker(settings, directory / "w.log", **SETTINGS),
        balanced([one.url, two.url], directory) as url,
    ):
        yield Target(url, [one, two], settings, directory, item, location, viewer, greedy, staff, admin, super_admin)


@pytest.fixture(scope="session")
async def others(target: Target) -> AsyncIterator[Bystander]:
    """A STAFF user who reads and posts stock all the time."""
    async with bystander(target.balancer, target.staff, target.item, target.location) as them:
        yield them


@pytest.fixture
def harmless(others: Bystander, record_property: Callable[[str, object], None]) -> Harmless:
    async def check(attack: Attack) -> None:
        before, during = await medians(others, attack)
        record_property(PROPERTY, [before, during])
        assert during <= FACTOR * before, f"{before:.1f} ms before, {during:.1f} ms during"

    return check


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """A table of what others noticed."""
    lines = [
        (report.nodeid.rpartition("::test_")[2].replace("_", " "), *value)
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        for name, value in report.user_properties
        if name == PROPERTY and report.when == "call"
    ]
    if lines:
        terminalreporter.section("other people's median request, in ms: before, during, ratio")
        for attack, before, during in lines:
            terminalreporter.write_line(f"{attack:<78} {before:8.1f} {during:8.1f} {during / before:6.2f}")
