"""The company's settings over HTTP: what may be set, by whom, and what is refused."""

import asyncio
import json
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest

from erp_service.company.catalogue import NAMES, text_of
from erp_service.company.schemas import READ_ONLY, SettingsChange, SettingsOut
from erp_service.company.settings import CompanySettings
from tests.company.settings_api import SETTINGS, changed, entries, refused
from tests.support.clients import UserClient
from tests.support.company import COMPANY

DEFAULTS = msgspec.to_builtins(CompanySettings())


def test_there_is_one_list_of_settings() -> None:
    """The struct of changes has each setting, and what else can be changed, and nothing more."""
    own = {"timezone", "closed_through"}
    assert {*SettingsOut.__struct_fields__} == {*CompanySettings.__struct_fields__, *own, *READ_ONLY}
    assert {*SettingsChange.__struct_fields__} == {*SettingsOut.__struct_fields__, "reason"}


WITH_SECOND_FACTORS = "update users set second_factor_since = now()"


async def test_what_nobody_has_set_has_its_default(admin: UserClient) -> None:
    answer = await admin.get(SETTINGS)
    shown = answer.json()
    assert shown == {
        **msgspec.to_builtins(COMPANY),
        "timezone": "UTC",
        "closed_through": None,
        "closed_at": None,
        "version": 1,
        "updated_at": shown["updated_at"],
    }
    assert answer.headers["ETag"] == '"1"'
    assert (await admin.get(SETTINGS, headers={"If-None-Match": '"1"'})).status_code == 304


async def test_the_catalogue_says_of_each_setting_what_it_takes(admin: UserClient, super_admin: UserClient) -> None:
    """What a form draws from it is taken: each default, and the ends of each range."""
    answer = await admin.get(f"{SETTINGS}/catalogue")
    assert answer.status_code == 200, answer.text
    listed = {setting.pop("name"): setting for setting in answer.json()["items"]}
    assert [*listed] == [*NAMES]
    assert listed["export_retention_hours"] == {
        "meaning": "for how many hours the file of a new export is kept, and the most for one",
        "kind": "integer",
        "choices": None,
        "least": 1,
        "most": 8760,
        "nullable": False,
        "default": "72",
        "role": "ADMIN",
    }
    kinds = {name: setting["kind"] for name, setting in listed.items() if setting["kind"] != "integer"}
    assert kinds == {
        "company_name": "text",
        "currency": "choice",
        "low_stock_threshold": "decimal",
        "second_factor_from": "choice",
        "timezone": "text",
        "closed_through": "date",
    }
    assert {name for name, setting in listed.items() if setting["role"] == "SUPER_ADMIN"} == {
        "second_factor_from",
        "audit_retention_days",
    }
    for end in ("least", "most"):
        values = {name: setting[end] for name, setting in listed.items() if setting[end] is not None}
        assert len(values) == 15
        assert (await changed(super_admin, **values)).items() >= values.items()
        for name, value in values.items():
            beyond = {name: value - 1 if end == "least" else value + 1}
            assert await refused(super_admin, **beyond) == (422, [f"/{name}"])
    after = await changed(super_admin, **dict.fromkeys(listed))
    assert {name: text_of(after[name]) for name in listed} == {
        name: None if name == "company_name" or setting["nullable"] else setting["default"]
        for name, setting in listed.items()
    }


async def test_a_change_is_stored_audited_and_answered(admin: UserClient, owner: asyncpg.Connection) -> None:
    shown = await changed(
        admin,
        company_name="Café Lumen",
        currency="CHF",
        timezone="Europe/Zurich",
        low_stock_threshold="12.500",
        requests_per_minute_per_key=None,
        exports_running_per_user=4,
        reason="we begin",
    )
    expected = {
        "company_name": "Café Lumen",
        "currency": "CHF",
        "timezone": "Europe/Zurich",
        "low_stock_threshold": "12.5",
        "requests_per_minute_per_key": None,
        "exports_running_per_user": 4,
    }
    assert {name: shown[name] for name in expected} == expected
    assert shown["version"] == 2
    (entry,) = await entries(owner)
    old: dict[str, Any] = {"company_name": None, "currency": "EUR", "timezone": "UTC", "low_stock_threshold": None}
    old |= {"requests_per_minute_per_key": 6000, "exports_running_per_user": 2}
    assert entry == {
        "action": "company.settings_changed",
        "before": old,
        "after": expected,
        "reason": "we begin",
        "user_id": admin.user_id,
    }
    stored = json.loads(await owner.fetchval("select settings::text from company"))
    del expected["timezone"]
    assert {name: stored[name] for name in expected} == expected


async def test_null_gives_a_setting_its_default_and_nothing_of_it_stays_stored(
    admin: UserClient, owner: asyncpg.Connection
) -> None:
    every = {
        "company_name": "Lumen",
        "currency": "USD",
        "timezone": "Asia/Tokyo",
        "low_stock_threshold": "1",
        "export_retention_hours": 1,
        "audit_retention_days": 4000,
        "exports_running_per_user": 1,
        "exports_waiting_per_user": 1,
        "export_bytes_per_user": 1,
        "export_submissions_per_hour": 1,
        "export_estimates_per_minute": 1,
        "export_downloads_per_minute": 1,
        "signed_addresses_per_minute": 1,
        "imports_running_per_user": 2,
        "imports_waiting_per_user": 1,
        "import_bytes_per_user": 1024,
        "import_submissions_per_hour": 1,
        "requests_per_minute_per_user": 60,
        "requests_per_minute_per_key": 60,
        "second_factor_from": "ADMIN",
    }
    assert {*every} == {*DEFAULTS, "timezone"}
    await owner.execute("update users set role = 'SUPER_ADMIN' where id = $1", admin.user_id)
    await owner.execute(WITH_SECOND_FACTORS)
    shown = await changed(admin, **every)
    assert {name: shown[name] for name in every} == every
    shown = await changed(admin, **dict.fromkeys(every))
    # where null is a value, it stays one
    expected = DEFAULTS | {"requests_per_minute_per_user": None, "requests_per_minute_per_key": None}
    assert {name: shown[name] for name in DEFAULTS} == expected
    assert shown["timezone"] == "UTC"
    stored = json.loads(await owner.fetchval("select settings::text from company"))
    assert stored == {"requests_per_minute_per_user": None, "requests_per_minute_per_key": None}
    await changed(admin, requests_per_minute_per_user=6000, requests_per_minute_per_key=6000)
    assert await owner.fetchval("select settings::text from company") == "{}"


async def test_what_a_later_version_has_stored_is_kept(admin: UserClient, owner: asyncpg.Connection) -> None:
    """Two versions run side by side during a roll."""
    await owner.execute("""update company set settings = '{"of_tomorrow": 5}'""")
    await changed(admin, company_name="Lumen")
    await changed(admin, company_name=None)
    assert await owner.fetchval("select settings::text from company") == '{"of_tomorrow": 5}'


async def test_what_another_version_has_stored_within_other_bounds_stops_nothing(
    admin: UserClient, owner: asyncpg.Connection
) -> None:
    """As after a roll back. What guards is then at its strictest."""
    stored = {"exports_running_per_user": 10**6, "currency": "CHF", "second_factor_from": "AUDITOR", "of_tomorrow": 5}
    await owner.execute(WITH_SECOND_FACTORS)
    await owner.execute("update company set settings = $1::text::jsonb", json.dumps(stored))
    shown = (await admin.get(SETTINGS)).json()
    assert (shown["exports_running_per_user"], shown["currency"], shown["second_factor_from"]) == (2, "CHF", "VIEWER")


async def test_a_change_that_changes_nothing_leaves_no_trace(admin: UserClient, owner: asyncpg.Connection) -> None:
    assert (await changed(admin))["version"] == 1
    shown = await changed(admin, currency="EUR", exports_running_per_user=None, reason="none")
    assert shown["version"] == 1
    assert await entries(owner) == []


async def test_a_body_as_it_was_read_is_taken_back(admin: UserClient) -> None:
    await changed(admin, low_stock_threshold="2.5", closed_through="2020-01-31")
    shown = (await admin.get(SETTINGS)).json()
    assert (await changed(admin, **shown)) == shown
    for name, value in {"version": 99, "updated_at": "2020-01-01T00:00:00Z", "closed_at": None}.items():
        assert await refused(admin, **{**shown, name: value}) == (422, [f"/{name}"])


async def test_merge_patch_may_say_what_it_is(admin: UserClient) -> None:
    for kind, status in (("application/merge-patch+json", 200), ("text/plain", 415)):
        answer = await admin.patch(SETTINGS, content=b"{}", headers={"Content-Type": kind})
        assert answer.status_code == status


async def test_of_two_changes_of_what_both_have_read_only_one_is_made(admin: UserClient) -> None:
    answers = await asyncio.gather(
        *(admin.patch(SETTINGS, json={"company_name": f"Lumen {n}"}, headers={"If-Match": '"1"'}) for n in range(8))
    )
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 7
    shown = (await admin.get(SETTINGS)).json()
    (won,) = (answer.json() for answer in answers if answer.status_code == 200)
    assert (shown, shown["version"]) == (won, 2)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("currency", ["eur", "EURO", "ABC", "XXX", "XTS", "XAU", "", "ЕUR", 978, ["EUR"]]),
        (
            "timezone",
            [
                *("right/Europe/Berlin", "posix/Europe/Berlin", "localtime", "Factory", "posixrules", "", "Mars/Base"),
                *("../etc/passwd", "/etc/localtime", "Europe", "europe/berlin", "+01:00", "Europe/Berlin\u0000", 1),
                "x" * 101,
            ],
        ),
        ("company_name", ["", " ", "\u200b", "x" * 201, 5, {"name": "x"}]),
        ("low_stock_threshold", ["-1", "1e3", "NaN", "0.0000001", "1_000", "", True, "9" * 13]),
        ("export_retention_hours", [0, -1, 8761, "72", 1.5, True, 10**30]),
        ("exports_running_per_user", [0, 101]),
        ("export_bytes_per_user", [0, 2**53]),
        ("audit_retention_days", [0, 29, 10**6]),
        ("requests_per_minute_per_user", [0, 59, 10**9]),
        ("second_factor_from", ["admin", "ROOT", "", 1]),
        ("closed_through", ["2020-02-30", "infinity", "9999-12-31", "2999-01-01", "2020-01-31T00:00:00Z", 20200131]),
    ],
)
async def test_what_no_company_can_have_is_refused(super_admin: UserClient, name: str, values: list[object]) -> None:
    for value in values:
        assert await refused(super_admin, **{name: value}) == (422, [f"/{name}"]), value


async def test_every_fault_is_named_in_one_answer(admin: UserClient) -> None:
    bad = {"currency": "ABC", "timezone": "right/Europe/Berlin", "version": 9}
    assert await refused(admin, **bad, company_name="Lumen") == (422, ["/version", "/timezone", "/currency"])


async def test_settings_of_the_environment_and_smuggled_members_are_no_settings(admin: UserClient) -> None:
    names = ["pool_size", "jwt_secret", "database_url", "settings", "id", "metadata", "__proto__", "Currency"]
    status, pointers = await refused(admin, **dict.fromkeys(names, 1))
    assert (status, pointers) == (422, [f"/{name}" for name in names])


async def test_ten_thousand_members_are_refused_with_a_short_answer(admin: UserClient) -> None:
    answer = await admin.patch(SETTINGS, json={f"k{n}": 1 for n in range(5_000)})
    assert (answer.status_code, len(answer.json()["errors"])) == (422, 100)
    answer = await admin.patch(SETTINGS, json={f"k{n}": 1 for n in range(10_000)})
    assert answer.status_code == 413


async def test_members_that_stand_twice_count_once(admin: UserClient) -> None:
    body = b'{"currency": "ABC", "currency": "CHF"}'
    answer = await admin.patch(SETTINGS, content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["currency"]) == (200, "CHF")


async def test_who_may_not(staff: UserClient, viewer: UserClient, client: httpx.AsyncClient) -> None:
    for who, status in ((staff, 403), (viewer, 403), (client, 401)):
        assert (await who.get(SETTINGS)).status_code == status
        assert (await who.get(f"{SETTINGS}/catalogue")).status_code == status
        assert (await who.patch(SETTINGS, json={"company_name": "Mine"})).status_code == status


async def test_guards_of_the_owner_need_the_highest_role(
    admin: UserClient, super_admin: UserClient, owner: asyncpg.Connection
) -> None:
    """An ADMIN could else do away with the second factor, or with the traces of what they did."""
    await owner.execute(WITH_SECOND_FACTORS)
    for values in ({"second_factor_from": "ADMIN"}, {"audit_retention_days": 30}):
        assert await refused(admin, **values, company_name="Lumen") == (403, [])
        await changed(super_admin, **values)
        assert await refused(admin, **dict.fromkeys(values)) == (403, [])
        # as they are, they may stand in a body that changes something else
        await changed(admin, **values, company_name=f"Lumen {len(values)}")


async def test_zones_that_postgres_takes_for_abbreviations_are_kept_by_their_real_name(admin: UserClient) -> None:
    """The ledger's trigger would else take the offset of winter for all the year."""
    assert (await changed(admin, timezone="CET"))["timezone"] == "Europe/Brussels"
    assert (await changed(admin, timezone="CET"))["version"] == 2
