"""Signed addresses: valid for one path, one user and five minutes, and never longer than the user's rights."""

import base64
import hmac
import logging
import struct
import time
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import asyncpg
import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from litestar import Litestar

from erp_service.access.roles import Role
from erp_service.app import create_app
from erp_service.auth.problems import AddressRefused
from erp_service.auth.tokens import Tokens
from erp_service.db.engine import Database
from erp_service.errors import Unauthorized
from erp_service.exports.delivery.signed_urls import SECONDS, Signed, SignedUrls, derive_key
from erp_service.observability import telemetry
from erp_service.services import build_services
from erp_service.settings import Settings
from tests.auth.people import HASH, bearer, signed_in
from tests.exports.data import many_items
from tests.exports.delivery.listening import listening
from tests.exports.jobs import JOBS, done, submitted
from tests.support.apps import running, services_of
from tests.support.clients import SignIn, UserClient, client_of
from tests.support.settings import SECRET
from tests.support.users import make_user
from tests.support.waiting import eventually
from tests.support.workers import Work

NEWER_SECRET = "another-secret-for-tests-only-9876543210-zyxwvut"
SETTINGS = Settings(database_url="postgresql://x/y", jwt_secret=SECRET)
ADDRESSES = SignedUrls(SETTINGS)
PATH = f"{JOBS}/01940000-0000-7000-8000-000000000000/download"
NOW = 1_800_000_000
FAMILY = UUID("00000000-0000-7000-8000-000000000001")
FOR = Signed(7, 3, NOW + SECONDS, FAMILY)


def signature_of(url: str) -> str:
    (signature,) = parse_qs(urlsplit(url).query)["signature"]
    return signature


SIGNATURE = signature_of(ADDRESSES.sign(PATH, FOR))


def test_keys_are_derived_as_rfc_5869_says() -> None:
    """RFC 5869, test case 3: without salt and info; the first 32 of 42 bytes."""
    expected = "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"
    assert derive_key(bytes([0x0B] * 22), b"").hex() == expected


@given(
    user_id=st.integers(1, 2**53 - 1), version=st.integers(1, 2**31 - 1), expires_at=st.integers(NOW + 1, NOW + SECONDS)
)
def test_signature_says_for_whom_and_until_when(user_id: int, version: int, expires_at: int) -> None:
    signed = Signed(user_id, version, expires_at, FAMILY)
    assert ADDRESSES.read(signature_of(ADDRESSES.sign(PATH, signed)), PATH, now=NOW) == signed


@given(at=st.integers(0, len(SIGNATURE) - 1), instead=st.characters())
def test_signature_is_refused_with_any_character_changed(at: int, instead: str) -> None:
    changed = SIGNATURE[:at] + instead + SIGNATURE[at + 1 :]
    if changed != SIGNATURE:
        with pytest.raises(AddressRefused):
            ADDRESSES.read(changed, PATH, now=NOW)


@given(at=st.integers(0, 68), bit=st.integers(0, 7))
def test_signature_is_refused_with_any_bit_of_any_byte_turned(at: int, bit: int) -> None:
    raw = bytearray(base64.urlsafe_b64decode(SIGNATURE))
    raw[at] ^= 1 << bit
    with pytest.raises(AddressRefused):
        ADDRESSES.read(base64.urlsafe_b64encode(raw).decode(), PATH, now=NOW)


@given(st.text() | st.text("AZaz09-_", min_size=76, max_size=76) | st.text("AZaz09-_", min_size=92, max_size=92))
def test_whatever_is_sent_as_a_signature_is_refused_and_nothing_breaks(text: str) -> None:
    with pytest.raises(AddressRefused):
        ADDRESSES.read(text, PATH, now=NOW)


@given(st.text())
def test_signature_of_one_path_is_refused_at_another(path: str) -> None:
    if path != PATH:
        with pytest.raises(AddressRefused):
            ADDRESSES.read(SIGNATURE, path, now=NOW)


def test_address_ends_when_its_time_is_over() -> None:
    assert ADDRESSES.read(SIGNATURE, PATH, now=FOR.expires_at - 0.01) == FOR
    with pytest.raises(AddressRefused, match="time"):
        ADDRESSES.read(SIGNATURE, PATH, now=FOR.expires_at)


def test_after_a_rotation_the_old_secret_still_reads_and_the_new_one_signs() -> None:
    rotated = SignedUrls(msgspec.structs.replace(SETTINGS, jwt_secret=f"{NEWER_SECRET}, {SECRET}"))
    later = SignedUrls(msgspec.structs.replace(SETTINGS, jwt_secret=NEWER_SECRET))
    assert rotated.read(SIGNATURE, PATH, now=NOW) == FOR
    assert later.read(signature_of(rotated.sign(PATH, FOR)), PATH, now=NOW) == FOR
    with pytest.raises(AddressRefused):
        later.read(SIGNATURE, PATH, now=NOW)


def test_signature_is_no_token() -> None:
    with pytest.raises(Unauthorized):
        Tokens(SETTINGS).read(SIGNATURE)


@pytest.fixture
async def nobody(app: Litestar) -> AsyncIterator[httpx.AsyncClient]:
    """A client without a token."""
    async with client_of(app) as client:
        yield client


@pytest.fixture
async def job(viewer: httpx.AsyncClient, owner: asyncpg.Connection, work: Work) -> dict[str, Any]:
    await many_items(owner, 2000)
    async with work():
        return await done(viewer)


async def given_address(client: httpx.AsyncClient, job: dict[str, Any]) -> dict[str, Any]:
    answer = await client.post(f"{JOBS}/{job['id']}/download-url")
    assert answer.status_code == 200, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    return dict(answer.json())


def refusal(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, "" if answer.is_success else answer.json()["type"].removeprefix("/problems/")


async def test_address_downloads_without_a_token_like_with_one(
    viewer: UserClient, nobody: httpx.AsyncClient, job: dict[str, Any], owner: asyncpg.Connection
) -> None:
    address = await given_address(viewer, job)
    whole = await viewer.get(f"{JOBS}/{job['id']}/download")
    got = await nobody.get(address["url"])
    assert (got.status_code, got.content) == (200, whole.content)
    assert got.headers["ETag"] == whole.headers["ETag"]
    part = await nobody.get(address["url"], headers={"Range": "bytes=10-19", "If-Range": whole.headers["ETag"]})
    assert (part.status_code, part.content) == (206, whole.content[10:20])
    head = await nobody.head(address["url"])
    assert (head.status_code, head.headers["Content-Length"]) == (200, str(len(whole.content)))
    known = await nobody.get(address["url"], headers={"If-None-Match": whole.headers["ETag"]})
    assert known.status_code == 304
    users = await owner.fetch("select distinct user_id from audit_log where action = 'export.downloaded'")
    assert [row["user_id"] for row in users] == [viewer.user_id]


async def test_address_lives_five_minutes(viewer: httpx.AsyncClient, job: dict[str, Any]) -> None:
    before = int(time.time())
    address = await given_address(viewer, job)
    expires_at = msgspec.convert(address["expires_at"], type=datetime).timestamp()
    assert before + SECONDS <= expires_at <= time.time() + SECONDS


async def test_address_of_an_earlier_time_is_refused(
    viewer: UserClient, nobody: httpx.AsyncClient, job: dict[str, Any], app: Litestar
) -> None:
    signed = Signed(viewer.user_id, 1, int(time.time()), FAMILY)
    answer = await nobody.get(services_of(app).signed_urls.sign(f"{JOBS}/{job['id']}/download", signed))
    assert refusal(answer) == (403, "signed-address-refused")
    assert "time" in answer.json()["detail"]


async def test_address_is_good_for_no_other_job_path_or_method(
    viewer: httpx.AsyncClient, nobody: httpx.AsyncClient, job: dict[str, Any], work: Work
) -> None:
    async with work():
        other = await done(viewer)
    signature = signature_of((await given_address(viewer, job))["url"])
    here = f"{JOBS}/{job['id']}"
    for path in (f"{JOBS}/{other['id']}/download", f"{here}/events", f"{JOBS}/{job['id'].upper()}/download"):
        answer = await nobody.get(path, params={"signature": signature})
        assert refusal(answer) == (403, "signed-address-refused"), path
    for method, path in (("GET", here), ("DELETE", here), ("POST", f"{here}/cancel"), ("POST", f"{here}/download-url")):
        answer = await nobody.request(method, path, params={"signature": signature})
        assert refusal(answer) == (401, "unauthorized"), (method, path)
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        answer = await nobody.request(method, f"{here}/download", params={"signature": signature})
        assert answer.status_code == 405, method


async def test_address_is_good_for_its_user_alone(
    viewer: httpx.AsyncClient, staff: UserClient, nobody: httpx.AsyncClient, job: dict[str, Any], app: Litestar
) -> None:
    """A signature of another user gives access only to what that user may read."""
    assert (await staff.post(f"{JOBS}/{job['id']}/download-url")).status_code == 404
    of_staff = Signed(staff.user_id, 1, int(time.time()) + SECONDS, FAMILY)
    assert (
        await nobody.get(services_of(app).signed_urls.sign(f"{JOBS}/{job['id']}/download", of_staff))
    ).status_code == 404


async def test_address_is_dead_once_the_role_was_taken_away(
    sign_in: SignIn, super_admin: httpx.AsyncClient, nobody: httpx.AsyncClient, work: Work, owner: asyncpg.Connection
) -> None:
    admin = await sign_in(Role.ADMIN)
    async with work():
        job = await done(admin, "users")
    address = await given_address(admin, job)
    assert (await nobody.get(address["url"])).status_code == 200
    user_id = admin.user_id
    # as by SQL, which changes the role and nothing else
    await owner.execute("update users set role = 'STAFF' where id = $1", user_id)

    async def forbidden() -> bool:
        return refusal(await nobody.get(address["url"])) == (403, "forbidden")

    await eventually(forbidden)
    # and through the API, which ends everything that was issued before
    answer = await super_admin.post(f"/api/v1/users/{user_id}/role", json={"role": "ADMIN", "reason": "back again"})
    assert answer.status_code == 200, answer.text

    async def dead() -> bool:
        return refusal(await nobody.get(address["url"])) == (403, "signed-address-refused")

    await eventually(dead)


async def test_address_is_dead_once_its_sign_in_was_ended(
    app: Litestar, client: httpx.AsyncClient, nobody: httpx.AsyncClient, database: Database, work: Work
) -> None:
    await make_user(database, Role.VIEWER, "grace@example.com", HASH)
    here, there = await signed_in(client, "grace@example.com"), await signed_in(client, "grace@example.com")
    async with client_of(app, here["access_token"]) as signed, work():
        job = await done(signed)
        address = await given_address(signed, job)
    async with client_of(app, there["access_token"]) as signed:
        of_another = await given_address(signed, job)
    assert (await nobody.get(address["url"])).status_code == 200
    assert (await client.post("/api/v1/auth/logout", headers=bearer(here))).status_code == 204
    for url in (address["url"], address["events_url"]):
        assert refusal(await nobody.get(url)) == (403, "signed-address-refused")
    assert (await nobody.get(of_another["url"])).status_code == 200


def test_address_of_the_version_before_is_good_for_its_five_minutes() -> None:
    payload = struct.pack(">BQQQ", 1, 7, 3, NOW + SECONDS)
    key = derive_key(SECRET.encode(), b"erp_service signed address 1")
    mac = hmac.digest(key, payload + PATH.encode(), "sha256")
    signature = base64.urlsafe_b64encode(payload + mac).decode()
    assert ADDRESSES.read(signature, PATH, now=NOW) == Signed(7, 3, NOW + SECONDS, None)
    for path, now in ((PATH + "x", NOW), (PATH, NOW + SECONDS)):
        with pytest.raises(AddressRefused):
            ADDRESSES.read(signature, path, now=now)


async def test_address_of_somebody_who_was_deactivated_is_dead(
    viewer: UserClient, nobody: httpx.AsyncClient, job: dict[str, Any], owner: asyncpg.Connection
) -> None:
    address = await given_address(viewer, job)
    await owner.execute("update users set is_active = false where id = $1", viewer.user_id)

    async def dead() -> bool:
        return refusal(await nobody.get(address["url"])) == (403, "signed-address-refused")

    await eventually(dead)


async def test_bad_signature_is_not_made_good_by_a_token(viewer: httpx.AsyncClient, job: dict[str, Any]) -> None:
    answer = await viewer.get(f"{JOBS}/{job['id']}/download", params={"signature": "x" * 76})
    assert refusal(answer) == (403, "signed-address-refused")
    assert "download-url" in (await viewer.get(answer.json()["type"])).text


async def test_address_can_be_had_before_the_file_is_there_and_not_after_it_is_gone(
    viewer: httpx.AsyncClient, nobody: httpx.AsyncClient, job: dict[str, Any]
) -> None:
    waiting = await given_address(viewer, {"id": await submitted(viewer)})
    assert refusal(await nobody.get(waiting["url"])) == (409, "export-not-ready")
    assert (await viewer.delete(f"{JOBS}/{job['id']}")).status_code == 204
    assert refusal(await viewer.post(f"{JOBS}/{job['id']}/download-url")) == (410, "export-expired")


async def test_events_can_be_followed_by_their_address(
    app: Litestar, viewer: httpx.AsyncClient, job: dict[str, Any]
) -> None:
    address = await given_address(viewer, job)
    async with listening(app, address["events_url"]) as listener:
        assert (await listener.event(0)).name == "done"
        await listener.end()


async def test_each_address_is_audited_without_its_signature(
    viewer: UserClient, job: dict[str, Any], owner: asyncpg.Connection
) -> None:
    signature = signature_of((await given_address(viewer, job))["url"])
    row = await owner.fetchrow("select * from audit_log where action = 'export.address_given'")
    assert (row["entity_id"], row["user_id"]) == (job["id"], viewer.user_id)
    assert not await owner.fetchval("select count(*) from audit_log a where a::text like '%' || $1 || '%'", signature)


async def test_address_is_not_kept_for_an_idempotency_key(
    viewer: httpx.AsyncClient, job: dict[str, Any], owner: asyncpg.Connection
) -> None:
    for _ in range(2):
        answer = await viewer.post(f"{JOBS}/{job['id']}/download-url", headers={"Idempotency-Key": "k"})
        assert "Idempotency-Replayed" not in answer.headers
    assert await owner.fetchval("select count(*) from idempotency where body::text like '%signature%'") == 0


async def test_signature_is_in_no_log_metric_or_answer(
    viewer: httpx.AsyncClient,
    nobody: httpx.AsyncClient,
    job: dict[str, Any],
    app: Litestar,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A good one, an expired one, a refused one, and one whose request fails."""
    lines: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    root = logging.getLogger()
    kept, level = Kept(), root.level
    kept.setFormatter(root.handlers[0].formatter)
    root.addHandler(kept)
    root.setLevel(logging.DEBUG)
    try:
        address = await given_address(viewer, job)
        answers = [await nobody.get(address["url"]), await nobody.post(address["url"])]
        answers.append(await nobody.get(address["url"].replace("/download", "/nothing")))
        answers.append(await nobody.get(address["url"] + "&other=1"))
        async with listening(app, address["events_url"]) as listener:
            await listener.end()

        async def broken(*_: object) -> None:
            raise RuntimeError("broken on purpose")

        monkeypatch.setattr(services_of(app).exports.store, "size", broken)
        answers.append(await nobody.get(address["url"]))
    finally:
        root.removeHandler(kept)
        root.setLevel(level)
    assert [answer.status_code for answer in answers] == [200, 405, 404, 422, 500]
    assert any("broken on purpose" in line for line in lines)
    assert sum("/download" in line for line in lines) >= 3
    metrics = (await nobody.get("/metrics")).text
    for url in (address["url"], address["events_url"]):
        secret = signature_of(url)
        assert not [line for line in lines if secret in line]
        assert secret not in metrics
        assert not [a for a in answers if secret in a.text or secret in str(a.headers)]


async def test_address_begins_with_the_public_url_and_not_with_what_the_caller_calls_us(
    settings: Settings, viewer: httpx.AsyncClient, job: dict[str, Any]
) -> None:
    spoofed = await viewer.post(f"{JOBS}/{job['id']}/download-url", headers={"Host": "evil.example.com"})
    assert spoofed.json()["url"].startswith(f"{JOBS}/{job['id']}/download?signature=")
    public = create_app(build_services(msgspec.structs.replace(settings, public_url="https://erp.example.com/inner/")))
    token = viewer.headers["Authorization"].removeprefix("Bearer ")
    async with running(public), client_of(public, token) as client, client_of(public) as anybody:
        address = await given_address(client, job)
        root = "https://erp.example.com/inner"
        assert address["url"].startswith(f"{root}{JOBS}/{job['id']}/download?signature=")
        assert address["events_url"].startswith(f"{root}{JOBS}/{job['id']}/events?signature=")
        # the proxy with this public URL removes its own prefix
        assert (await anybody.get(address["url"].removeprefix(root))).status_code == 200


async def test_document_says_that_a_signature_stands_for_a_token_on_these_two_routes_alone(
    nobody: httpx.AsyncClient,
) -> None:
    document = (await nobody.get("/schema/openapi.json")).json()
    scheme = document["components"]["securitySchemes"]["signature"]
    assert (scheme["type"], scheme["in"], scheme["name"]) == ("apiKey", "query", "signature")
    signed = {
        (method, path.rpartition("/")[2])
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if {"signature": []} in operation["security"]
    }
    assert signed == {("get", "download"), ("head", "download"), ("get", "events")}


def test_telemetry_masks_a_signature_that_is_logged_by_name() -> None:
    assert telemetry._masked(None, "", {"signature": SIGNATURE})["signature"] == "********"
