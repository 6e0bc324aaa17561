"""The second factor: what it adds to signing in, and what somebody meets who has the password or a token alone."""

import asyncio
import re

import asyncpg
import httpx
import pyotp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from erp_service import errors
from erp_service.access.roles import Role
from erp_service.auth.login import limits
from erp_service.auth.login.networks import Networks
from erp_service.auth.second_factor import codes
from erp_service.db.engine import Database
from erp_service.settings import Settings
from tests.auth.devices import TOTP, Device, begin, confirm, enrolled, forget_steps, log_in, with_device
from tests.auth.people import OTHER_PASSWORD, PASSWORD, Join, Person, actions, bearer, me, signed_in, slug
from tests.support.apps import Instances

WRONG = "wrong, alas"


@pytest.fixture
async def grace(join: Join) -> Person:
    return await join(Role.STAFF)


def other_than(*codes: str) -> str:
    return next(code for n in range(10) if (code := f"{n}" * 6) not in codes)


def wrong_code(device: Device) -> str:
    return other_than(*(device.code(step) for step in range(-3, 4)))


# The codes themselves.

RFC_6238 = {59: "287082", 1111111109: "081804", 1111111111: "050471", 1234567890: "005924", 2000000000: "279037"}
"""The test vectors of its appendix B for SHA-1: the last six of their eight digits."""


@pytest.mark.parametrize(("at", "code"), RFC_6238.items())
def test_codes_are_those_of_rfc_6238_with_one_step_on_each_side(at: int, code: str) -> None:
    secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
    step = at // 30
    for seconds in (-30, 0, 30):
        assert codes.matching_step(secret, code, now=at + seconds, after=0) == step
    for seconds in (-60, 60):
        assert codes.matching_step(secret, code, now=at + seconds, after=0) is None
    assert codes.matching_step(secret, code, now=at, after=step) is None
    assert codes.matching_step(secret, code, now=at, after=step - 1) == step


@given(st.text(max_size=80) | st.text("0123456789 -", max_size=8), st.integers(30, 2**37))
def test_whatever_is_typed_is_compared_and_is_no_code(typed: str, now: int) -> None:
    code = codes.plain(typed)
    secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
    valid = [pyotp.TOTP(secret).at(now + 30 * step) for step in (-1, 0, 1)]
    if codes.is_totp(code):
        assert (codes.matching_step(secret, code, now=now, after=-9) is not None) == (code in valid)
    assert len(codes.recovery_digest(code)) == 32


def test_recovery_codes_are_120_random_bits_and_read_however_they_are_typed() -> None:
    new = codes.new_recovery_codes()
    assert len(set(new)) == 10
    for code in new:
        assert re.fullmatch(r"([a-z2-7]{4}-){5}[a-z2-7]{4}", code)
        assert codes.plain(f" {code.upper().replace('-', ' ')} ") == codes.plain(code) == code.replace("-", "")


@pytest.mark.parametrize(
    ("company_name", "issuer"),
    [
        ("Harbour Lane Coffee", "Harbour Lane Coffee"),
        (None, codes.ISSUER),
        ("Müller + Söhne & Co: 100 %", "Müller + Söhne & Co 100 %"),
        (":", codes.ISSUER),
        ("\N{HOT BEVERAGE}\N{VARIATION SELECTOR-16}" * 100, "\N{HOT BEVERAGE}\N{VARIATION SELECTOR-16}" * 25),
    ],
)
def test_the_device_shows_the_name_of_the_company(company_name: str | None, issuer: str) -> None:
    email = "a" * 64 + "@" + "b" * 180 + ".example"
    address = codes.otpauth_address(pyotp.random_base32(), email, company_name)
    parsed = pyotp.parse_uri(address)
    assert (parsed.issuer, parsed.name) == (issuer, email)
    assert len(address) < 2_953, "a QR code holds it"


# Setting it up.


async def test_a_second_factor_is_set_up_with_the_password_and_confirmed_with_a_code(
    client: httpx.AsyncClient, grace: Person, owner: asyncpg.Connection
) -> None:
    pair = await signed_in(client, grace.email)
    there = await signed_in(client, grace.email)
    answer = await client.post(TOTP, json={"password": PASSWORD}, headers=bearer(pair))
    assert answer.headers["cache-control"] == "no-store"
    parsed = pyotp.parse_uri(answer.json()["uri"])
    assert (parsed.name, parsed.issuer) == (grace.email, codes.ISSUER)
    await owner.execute("""update company set settings = '{"company_name": "Harbour Lane Coffee"}'""")
    answer = await client.post(TOTP, json={"password": PASSWORD}, headers=bearer(pair))
    enrolment = answer.json()
    parsed = pyotp.parse_uri(enrolment["uri"])
    assert (parsed.name, parsed.issuer, parsed.secret) == (grace.email, "Harbour Lane Coffee", enrolment["secret"])
    # nothing has changed yet
    assert (await log_in(client, grace.email, None)).status_code == 200
    assert not (await me(client, pair)).json()["second_factor"]

    device = Device(enrolment["secret"], [])
    answer = await confirm(client, pair, device.code())
    assert answer.headers["cache-control"] == "no-store"
    assert len(answer.json()["recovery_codes"]) == codes.RECOVERY_CODES
    profile = await me(client, pair)
    assert profile.json()["second_factor"]
    assert (await me(client, there)).status_code == 401, "made with the password alone"
    state = (await client.get(TOTP, headers=bearer(pair))).json()
    assert state["since"] is not None
    assert (state["recovery_codes"], state["required"]) == (10, False)
    assert "user.second_factor_added" in await actions(owner)


async def test_log_in_asks_for_the_code_only_after_the_right_password(
    client: httpx.AsyncClient, grace: Person, owner: asyncpg.Connection
) -> None:
    device, _ = await with_device(client, grace)
    refused = await log_in(client, grace.email, None)
    assert (refused.status_code, slug(refused)) == (401, "second-factor-needed")
    refused = await log_in(client, grace.email, wrong_code(device))
    assert (refused.status_code, slug(refused)) == (401, "second-factor-wrong")
    for code in (None, device.code(), wrong_code(device), device.recovery_codes[0]):
        told = await log_in(client, grace.email, code, WRONG)
        nobody = await log_in(client, "nobody@example.com", code, WRONG)
        assert (slug(told), slug(nobody)) == ("wrong-credentials", "wrong-credentials")
        assert told.json() | {"request_id": ""} == nobody.json() | {"request_id": ""}
    assert (await log_in(client, grace.email, device.code())).status_code == 200
    logged = await actions(owner)
    assert logged.count("user.second_factor_requested") == 1
    assert logged.count("user.second_factor_failed") == 1
    assert logged[-1] == "user.signed_in"


async def test_a_code_in_the_form_of_who_has_no_second_factor_does_not_matter(
    client: httpx.AsyncClient, grace: Person
) -> None:
    assert (await log_in(client, grace.email, "123456")).status_code == 200
    assert (await log_in(client, grace.email, "")).status_code == 200


@pytest.mark.parametrize("form", ["totp=1&totp=2", "totp=" + "1" * 65, "totp=%00"])
async def test_a_bad_code_in_the_form_is_named(client: httpx.AsyncClient, form: str) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    body = f"username=a@b&password=x&{form}"
    answer = await client.post("/api/v1/auth/login", content=body, headers=headers)
    assert answer.status_code == 422
    assert [fault["pointer"] for fault in answer.json()["errors"]] == ["/totp"]


# Replays.


async def test_a_code_signs_in_once_also_on_two_instances_at_the_same_moment(
    two: Instances, grace: Person, owner: asyncpg.Connection
) -> None:
    device, _ = await with_device(two.clients[0], grace)
    code = device.code()
    answers = await asyncio.gather(*(log_in(two.clients[n % 2], grace.email, code) for n in range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 401, 401, 401]
    assert {slug(answer) for answer in answers if answer.status_code == 401} == {"second-factor-wrong"}
    assert (await log_in(two.clients[1], grace.email, code)).status_code == 401
    # an older one that was never used is worthless, too
    assert (await log_in(two.clients[1], grace.email, device.code(0))).status_code == 401
    assert (await actions(owner)).count("user.signed_in") == 2


async def test_the_code_that_confirmed_signs_in_no_more(client: httpx.AsyncClient, grace: Person) -> None:
    pair = await signed_in(client, grace.email)
    device = Device(await begin(client, pair), [])
    code = device.code()
    assert (await confirm(client, pair, code)).status_code == 200
    assert (await log_in(client, grace.email, code)).status_code == 401


async def test_of_two_who_confirm_at_once_one_gets_the_recovery_codes(two: Instances, grace: Person) -> None:
    pair = await signed_in(two.clients[0], grace.email)
    device = Device(await begin(two.clients[0], pair), [])
    code = device.code(0)
    answers = await asyncio.gather(*(confirm(client, pair, code) for client in two.clients))
    assert sorted(answer.status_code for answer in answers) == [200, 409]
    [codes_] = [answer.json()["recovery_codes"] for answer in answers if answer.status_code == 200]
    assert (await log_in(two.clients[1], grace.email, codes_[9])).status_code == 200


async def test_a_recovery_code_works_once_also_on_two_instances_at_the_same_moment(
    two: Instances, grace: Person, owner: asyncpg.Connection
) -> None:
    device, pair = await with_device(two.clients[0], grace)
    code = device.recovery_codes[3].upper().replace("-", " ")
    answers = await asyncio.gather(*(log_in(two.clients[n % 2], grace.email, code) for n in range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 401, 401, 401]
    assert (await two.clients[0].get(TOTP, headers=bearer(pair))).json()["recovery_codes"] == 9
    [entry] = await owner.fetch("select * from audit_log where action = 'user.recovery_code_used'")
    assert (entry["user_id"], entry["after"]) == (grace.id, '{"left": 9}')


async def test_the_code_of_another_user_is_worth_nothing(client: httpx.AsyncClient, join: Join) -> None:
    grace, ada = await join(), await join(email="ada@example.com")
    hers, _ = await with_device(client, grace)
    device, _ = await with_device(client, ada)
    for code in (device.code(), *device.recovery_codes[:2]):
        assert slug(await log_in(client, grace.email, code)) == "second-factor-wrong"
    assert (await log_in(client, grace.email, hers.code())).status_code == 200


# Guessing.


async def test_a_right_password_with_wrong_codes_is_counted_and_delayed_as_wrong_passwords_are(
    two: Instances, grace: Person, owner: asyncpg.Connection
) -> None:
    """At the owner's own network, where nothing else limits. The right password in between starts nothing afresh."""
    device, _ = await with_device(two.clients[0], grace)
    code = wrong_code(device)
    answers = await asyncio.gather(*(log_in(two.clients[n % 2], grace.email, code) for n in range(30)))
    statuses = [answer.status_code for answer in answers]
    assert (statuses.count(401), statuses.count(429)) == (10, 20)
    assert (await log_in(two.clients[0], grace.email, device.code())).status_code == 429
    await owner.execute("update rate_limits set resets_at = now() where key like 'login account known%'")
    assert slug(await log_in(two.clients[0], grace.email, None)) == "second-factor-needed"
    await owner.execute("update rate_limits set resets_at = now() where key like 'login account known%'")
    assert (await log_in(two.clients[0], grace.email, code)).status_code == 401
    refused = await log_in(two.clients[0], grace.email, code)
    assert int(refused.headers["retry-after"]) > 15, "it goes on doubling"
    await owner.execute("update rate_limits set resets_at = now() where key like 'login account known%'")
    assert (await log_in(two.clients[0], grace.email, device.code())).status_code == 200
    assert slug(await log_in(two.clients[0], grace.email, code)) == "second-factor-wrong", "afresh"


async def test_10000_codes_from_a_botnet_that_knows_the_password_are_mostly_never_looked_at(
    database: Database, settings: Settings, grace: Person, owner: asyncpg.Connection
) -> None:
    """Each network has attempts of its own, and the account has one count of codes for all that are new to it. Of a
    sample, without the hashing."""
    taken, waits = 0, []
    for n in range(40):
        attempt = limits.attempt_on(grace.email, Networks(f"{n}", f"{n}", f"{n}"), known=False)
        try:
            await limits.count_code(database, settings, grace.id, attempt)
            taken += 1
        except errors.TooMany as refused:
            waits.append(int(refused.headers["Retry-After"]))
            await owner.execute("update rate_limits set resets_at = now()")
    assert taken == 10 + 15
    assert waits[:3] == [15, 30, 60]
    assert waits[-1] == limits.LONGEST_CODE_DELAY_SECONDS
    known = limits.attempt_on(grace.email, Networks("h", "h", "h"), known=True)
    await limits.count_code(database, settings, grace.id, known)


# Somebody with a stolen token, or with the password alone.


async def test_a_stolen_token_sets_up_nothing_and_removes_nothing(client: httpx.AsyncClient, grace: Person) -> None:
    stolen = await signed_in(client, grace.email)
    answer = await client.post(TOTP, json={"password": WRONG}, headers=bearer(stolen))
    assert [fault["pointer"] for fault in answer.json()["errors"]] == ["/password"]
    assert slug(await confirm(client, stolen, "000000")) == "no-second-factor"
    device = await enrolled(client, stolen)
    for body, pointer in (
        ({"password": WRONG, "code": device.code()}, "/password"),
        ({"password": PASSWORD, "code": wrong_code(device)}, "/code"),
    ):
        for method, url in (("DELETE", TOTP), ("POST", f"{TOTP}/recovery-codes"), ("POST", TOTP)):
            answer = await client.request(method, url, json=body, headers=bearer(stolen))
            assert answer.status_code == 422, (method, url)
            assert [fault["pointer"] for fault in answer.json()["errors"]] == [pointer]
    answer = await client.post(TOTP, json={"password": PASSWORD}, headers=bearer(stolen))
    assert [fault["pointer"] for fault in answer.json()["errors"]] == ["/code"]
    assert (await log_in(client, grace.email, device.code())).status_code == 200


async def test_guesses_with_a_stolen_token_are_delayed_as_log_ins_are(client: httpx.AsyncClient, grace: Person) -> None:
    stolen = await signed_in(client, grace.email)
    guesses = (client.post(TOTP, json={"password": f"guess {n}"}, headers=bearer(stolen)) for n in range(14))
    statuses = [answer.status_code for answer in await asyncio.gather(*guesses)]
    assert (statuses.count(422), statuses.count(429)) == (10, 4)


async def test_the_codes_of_a_pending_secret_cannot_be_guessed(client: httpx.AsyncClient, grace: Person) -> None:
    """Its owner is still typing it in, and somebody else has a token."""
    pair = await signed_in(client, grace.email)
    device = Device(await begin(client, pair), [])
    answers = [await confirm(client, pair, wrong_code(device)) for _ in range(limits.MOST_CONFIRMATIONS)]
    assert {answer.status_code for answer in answers} == {422}
    assert (await confirm(client, pair, device.code())).status_code == 429


async def test_a_secret_that_is_not_confirmed_in_time_is_over(
    client: httpx.AsyncClient, grace: Person, owner: asyncpg.Connection
) -> None:
    pair = await signed_in(client, grace.email)
    device = Device(await begin(client, pair), [])
    await owner.execute("update second_factors set pending_since = now() - interval '31 minutes'")
    assert slug(await confirm(client, pair, device.code())) == "no-second-factor"


async def test_a_sign_in_that_was_ended_confirms_nothing(client: httpx.AsyncClient, grace: Person) -> None:
    pair = await signed_in(client, grace.email)
    device = Device(await begin(client, pair), [])
    await client.post("/api/v1/auth/logout", headers=bearer(pair))
    assert (await confirm(client, pair, device.code())).status_code == 401


# Removing and replacing.


async def test_removing_it_takes_both_factors_and_ends_the_other_sign_ins(
    client: httpx.AsyncClient, grace: Person, owner: asyncpg.Connection
) -> None:
    device, pair = await with_device(client, grace)
    there = (await log_in(client, grace.email, device.code())).json()
    body = {"password": PASSWORD, "code": device.recovery_codes[0]}
    assert (await client.request("DELETE", TOTP, json=body, headers=bearer(pair))).status_code == 204
    assert (await me(client, there)).status_code == 401
    assert not (await me(client, pair)).json()["second_factor"]
    assert await owner.fetchval("select count(*) from second_factors") == 0
    assert await owner.fetchval("select count(*) from recovery_codes") == 0
    answer = await client.request("DELETE", TOTP, json=body, headers=bearer(pair))
    assert (answer.status_code, slug(answer)) == (409, "no-second-factor")
    assert (await log_in(client, grace.email, None)).status_code == 200


async def test_another_device_takes_the_place_of_the_first_once_it_is_confirmed(
    client: httpx.AsyncClient, grace: Person, owner: asyncpg.Connection
) -> None:
    first, pair = await with_device(client, grace)
    second = Device(await begin(client, pair, code=first.code()), [])
    await forget_steps(owner)
    assert (await log_in(client, grace.email, first.code(0))).status_code == 200
    assert (await confirm(client, pair, second.code(0))).status_code == 200
    for code in (first.code(), first.recovery_codes[0]):
        assert slug(await log_in(client, grace.email, code)) == "second-factor-wrong"
    assert (await log_in(client, grace.email, second.code())).status_code == 200


async def test_new_recovery_codes_end_those_of_before(client: httpx.AsyncClient, grace: Person) -> None:
    device, pair = await with_device(client, grace)
    body = {"password": PASSWORD, "code": device.code()}
    answer = await client.post(f"{TOTP}/recovery-codes", json=body, headers=bearer(pair))
    new = answer.json()["recovery_codes"]
    assert (await log_in(client, grace.email, device.recovery_codes[1])).status_code == 401
    assert (await log_in(client, grace.email, new[1])).status_code == 200


async def test_a_change_of_the_password_leaves_the_second_factor(client: httpx.AsyncClient, grace: Person) -> None:
    device, pair = await with_device(client, grace)
    body = {"old_password": PASSWORD, "new_password": OTHER_PASSWORD}
    assert (await client.put("/api/v1/auth/me/password", json=body, headers=bearer(pair))).status_code == 200
    assert slug(await log_in(client, grace.email, None, OTHER_PASSWORD)) == "second-factor-needed"
    assert (await log_in(client, grace.email, device.code(), OTHER_PASSWORD)).status_code == 200
