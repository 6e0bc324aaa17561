"""Webhooks over HTTP: who makes them, what they may be told of, and their secrets."""

import asyncio
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from standardwebhooks import Webhook

from erp_service.access.principals import KeyGrant, Principal
from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.audit.retention import prune
from erp_service.db.engine import Database
from erp_service.errors import Invalid
from erp_service.events.webhooks import service
from erp_service.events.webhooks.context import WebhookContext
from erp_service.events.webhooks.routes import TESTS_PER_MINUTE
from erp_service.events.webhooks.schemas import WebhookBody, WebhookOut
from erp_service.settings import Settings
from erp_service.worker_services import WorkerServices
from tests.events.webhooks.endpoints import PATH, happen, make, seen
from tests.events.webhooks.receiving import Receiver, Reply
from tests.support.clients import UserClient
from tests.support.trail import seal_all

URL = "https://shop.example.com/hook"


async def audit(client: UserClient, webhook: dict[str, Any]) -> list[dict[str, Any]]:
    """Oldest first."""
    answer = await client.get("/api/v1/audit", params={"entity": "webhook", "entity_id": webhook["id"]})
    entries: list[dict[str, Any]] = answer.json()["items"]
    return entries[::-1]


async def test_new_webhook_has_its_secret_once_and_begins_at_the_head(
    admin: UserClient, settings: Settings, database: Database, owner: asyncpg.Connection
) -> None:
    await happen(settings, database, "item.created", "item.updated")
    answer = await admin.post(PATH, json={"url": "https://Shop.example.com:443/hook", "types": ["item.updated"]})
    assert answer.status_code == 201
    made = answer.json()
    assert made["secret"].startswith("whsec_")
    assert (made["url"], made["types"], made["is_active"]) == (URL, ["item.updated"], True)
    assert (made["cursor"], made["lag"], made["created_by"]) == (2, 0, admin.user_id)
    assert answer.headers["Location"] == f"{PATH}/{made['id']}"
    one = await admin.get(answer.headers["Location"])
    assert one.headers["ETag"] == answer.headers["ETag"]
    secret = made.pop("secret")
    assert one.json() == made
    listed = await admin.get(PATH)
    assert listed.json() == {"items": [made], "next_cursor": None}
    (entry,) = await audit(admin, made)
    assert (entry["action"], entry["after"]["url"]) == ("webhook.created", URL)
    for table in ("webhooks", "audit_log", "idempotency", "procrastinate_jobs"):
        kept = await owner.fetchval(f"select coalesce(string_agg(t::text, ' '), '') from {table} t")
        assert secret.removeprefix("whsec_")[:20] not in kept, table


async def test_only_admins_see_webhooks(staff: UserClient, admin: UserClient) -> None:
    made = await make(admin, URL)
    one = f"{PATH}/{made['id']}"
    for method, path in [
        ("GET", PATH),
        ("GET", one),
        ("DELETE", one),
        ("GET", f"{one}/deliveries"),
        ("POST", f"{one}/test"),
        ("POST", f"{one}/rotate-secret"),
    ]:
        assert (await staff.request(method, path)).status_code == 403, path
    assert (await staff.post(PATH, json={"url": URL})).status_code == 403
    assert (await staff.patch(one, json={"is_active": False})).status_code == 403
    assert (await staff.post(f"{one}/replay", json={})).status_code == 403


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({}, ["/url"]),
        ({"url": "http://127.0.0.2/", "types": ["item.exploded", "item.created", "item.created"]},
         ["/types/0", "/types/2", "/url"]),
        ({"url": "https://10.0.0.1/"}, ["/url"]),
        ({"url": "https://localhost:22/"}, ["/url"]),
        ({"url": "https://a:b@example.com/"}, ["/url"]),
        ({"url": "https://" + "a" * 3000}, ["/url"]),
        ({"url": URL, "types": []}, ["/types"]),
        ({"url": URL, "types": ["x"] * 201}, ["/types"]),
        ({"url": URL, "description": "\u200b"}, ["/description"]),
        ({"url": URL, "secret": "whsec_mine"}, ["/secret"]),
    ],
)  # fmt: skip
async def test_bad_fields_are_named(admin: UserClient, body: dict[str, Any], pointers: list[str]) -> None:
    answer = await admin.post(PATH, json=body)
    assert answer.status_code == 422
    assert sorted(fault["pointer"] for fault in answer.json()["errors"]) == pointers


async def test_an_address_has_one_webhook_and_whoever_lost_the_answer_is_told_which(admin: UserClient) -> None:
    first, second = await asyncio.gather(*(admin.post(PATH, json={"url": URL}) for _ in range(2)))
    made, refused = sorted((first, second), key=lambda answer: answer.status_code)
    assert (made.status_code, refused.status_code) == (201, 409)
    assert refused.json()["type"] == "/problems/webhook-exists"
    assert refused.json()["webhook_id"] == made.json()["id"]
    other = await make(admin, "https://other.example.com/")
    moved = await admin.patch(f"{PATH}/{other['id']}", json={"url": URL})
    assert (moved.status_code, moved.json()["webhook_id"]) == (409, made.json()["id"])
    assert (await admin.delete(f"{PATH}/{made.json()['id']}")).status_code == 204
    assert (await admin.patch(f"{PATH}/{other['id']}", json={"url": URL})).status_code == 200


async def test_there_are_only_so_many_also_at_once(admin: UserClient) -> None:
    for number in range(service.MOST_WEBHOOKS - 1):
        await make(admin, f"https://shop{number}.example.com/")
    answers = await asyncio.gather(*(admin.post(PATH, json={"url": f"https://b{n}.example.com/"}) for n in range(3)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409]
    assert {answer.json()["type"] for answer in answers if answer.status_code == 409} == {"/problems/too-many-webhooks"}


async def test_change_keeps_what_is_left_out_and_needs_the_present_version(admin: UserClient) -> None:
    made = await make(admin, URL, types=["item.updated"], description="The shop")
    one = f"{PATH}/{made['id']}"
    etag = (await admin.get(one)).headers["ETag"]
    changed = await admin.patch(one, json={"is_active": False}, headers={"If-Match": etag})
    assert (changed.status_code, changed.json()["is_active"], changed.json()["types"]) == (200, False, ["item.updated"])
    assert changed.headers["ETag"] != etag
    stale = await admin.patch(one, json={"types": None}, headers={"If-Match": etag})
    assert stale.status_code == 412
    same = await admin.patch(one, json={"is_active": False, "description": "The shop"})
    assert same.headers["ETag"] == changed.headers["ETag"], "what changes nothing leaves no trace"
    everything = await admin.patch(one, json={"types": None, "description": None})
    assert (everything.json()["types"], everything.json()["description"]) == (None, None)
    assert [entry["action"] for entry in await audit(admin, made)] == [
        "webhook.created",
        "webhook.updated",
        "webhook.updated",
    ]
    assert (await admin.delete(one, headers={"If-Match": etag})).status_code == 412
    assert (await admin.delete(one)).status_code == 204
    assert (await admin.get(one)).status_code == 404
    assert (await audit(admin, made))[-1]["before"]["url"] == URL
    assert (await admin.patch(f"{PATH}/{uuid4()}", json={})).status_code == 404


def key_of(*scopes: Scope) -> Principal:
    return Principal(None, Role.ADMIN, key=KeyGrant(1, frozenset({Scope.WEBHOOKS_WRITE, *scopes})))


def like(webhook: WebhookOut, **changes: object) -> WebhookBody:
    values = {name: getattr(webhook, name) for name in WebhookBody.__struct_fields__}
    return WebhookBody(**{**values, **changes})


async def test_nobody_makes_or_turns_a_webhook_to_what_they_may_not_read(
    database: Database, context: WebhookContext
) -> None:
    """A key for webhooks alone would else read everything by way of one."""
    key = key_of(Scope.ITEMS_READ)
    async with database.write() as db:

        async def make_with(who: Principal, types: list[str] | None) -> service.Created:
            body = WebhookBody(url=f"https://{uuid4()}.example.com/", types=types)  # type: ignore[arg-type]
            return await service.create(db, who, context.sender, body)

        for types in (None, ["user.created"], ["item.created", "stock.posted"]):
            with pytest.raises(Invalid) as caught:
                await make_with(key, types)
            assert {(fault.pointer or "").split("/")[1] for fault in caught.value.faults} == {"types"}
        made = await make_with(key, ["item.created"])
        everything = await make_with(Principal(None, Role.ADMIN), None)
        elsewhere = "https://elsewhere.example.com/"
        with pytest.raises(Invalid):
            await service.change(db, key, context.sender, everything.webhook, like(everything.webhook, url=elsewhere))
        changed = await service.change(db, key, context.sender, made.webhook, like(made.webhook, url=elsewhere))
        assert changed.url == elsewhere
        off = await service.change(db, key_of(), context.sender, changed, like(changed, is_active=False))
        with pytest.raises(Invalid):
            await service.change(db, key_of(), context.sender, off, like(off, is_active=True))


async def test_rotated_secret_is_valid_beside_those_before_it(
    admin: UserClient, receiver: Receiver, owner: asyncpg.Connection
) -> None:
    made = await make(admin, receiver.url())
    one = f"{PATH}/{made['id']}"
    secrets = [made["secret"]]
    for _ in range(2):
        rotated = await admin.post(f"{one}/rotate-secret")
        assert rotated.status_code == 200
        secrets.append(rotated.json()["secret"])
    assert len(set(secrets)) == 3
    assert (await admin.post(f"{one}/test")).json()["delivered"]
    for secret in secrets:
        Webhook(secret).verify(receiver.requests[0].raw, receiver.requests[0].headers)
    secrets += [(await admin.post(f"{one}/rotate-secret")).json()["secret"] for _ in range(5)]
    await admin.post(f"{one}/test")
    signatures = receiver.requests[1].headers["webhook-signature"].split(" ")
    assert len(signatures) == service.MOST_SECRETS
    Webhook(secrets[-1]).verify(receiver.requests[1].raw, {**receiver.requests[1].headers})
    await owner.execute("update webhook_secrets set valid_until = now() where valid_until is not null")
    await admin.post(f"{one}/test")
    assert " " not in receiver.requests[2].headers["webhook-signature"]
    assert [entry["action"] for entry in await audit(admin, made)][1:] == ["webhook.secret_rotated"] * 7


async def test_test_message_is_sent_now_and_changes_nothing(admin: UserClient, receiver: Receiver) -> None:
    made = await make(admin, receiver.url(), is_active=False)
    receiver.answer = lambda _: Reply(400, {}, b"unknown \x1b[2J shop")
    answer = await admin.post(f"{PATH}/{made['id']}/test")
    assert answer.status_code == 200
    result = answer.json()
    assert (result["delivered"], result["status"], result["response"]) == (False, 400, "unknown  [2J shop")
    (request,) = receiver.requests
    assert result["webhook_id"] == request.id
    body = Webhook(made["secret"]).verify(request.raw, request.headers)
    assert (body["type"], body["position"], body["data"]) == ("webhook.test", None, {"webhook_id": made["id"]})
    made.pop("secret")
    assert await seen(admin, made) == made
    answers = [await admin.post(f"{PATH}/{made['id']}/test") for _ in range(TESTS_PER_MINUTE)]
    assert [answer.status_code for answer in answers] == [200] * (TESTS_PER_MINUTE - 1) + [429]


async def test_replay_goes_where_it_is_told_and_no_further_than_the_next_position(
    admin: UserClient, settings: Settings, database: Database
) -> None:
    made = await make(admin, URL, is_active=False)
    await happen(settings, database, *["item.updated"] * 3)
    one = f"{PATH}/{made['id']}"
    head = (await seen(admin, made))["lag"] + made["cursor"]
    ahead = await admin.post(f"{one}/replay", json={"from_position": head + 2})
    assert (ahead.status_code, ahead.json()["errors"][0]["pointer"]) == (422, "/from_position")
    skipped = await admin.post(f"{one}/replay", json={"from_position": head + 1})
    assert (skipped.json()["cursor"], skipped.json()["lag"], skipped.json()["is_active"]) == (head, 0, True)
    back = await admin.post(f"{one}/replay", json={"from_position": 1})
    assert back.json()["cursor"] == 0
    stayed = await admin.post(f"{one}/replay", json={})
    assert stayed.json()["cursor"] == 0
    assert [entry["action"] for entry in await audit(admin, made)][1:] == ["webhook.replayed"] * 3
    key = {"Idempotency-Key": "once"}
    first = await admin.post(f"{one}/replay", json={"from_position": 2}, headers=key)
    again = await admin.post(f"{one}/replay", json={"from_position": 2}, headers=key)
    assert (first.json(), again.headers.get("Idempotency-Replayed")) == (again.json(), "true")


async def test_replay_of_what_is_no_longer_kept_says_where_it_can_begin(
    admin: UserClient, settings: Settings, owner: asyncpg.Connection, worker_services: WorkerServices
) -> None:
    old = "insert into audit_log (at, action, entity, entity_id) values (now() - interval '100 days', $1, 'item', '1')"
    for _ in range(3):
        await owner.execute(old, "item.updated")
    await owner.execute("""update company set settings = '{"audit_retention_days": 50}'""")
    made = await make(admin, URL)
    await seal_all(settings)
    assert await prune(worker_services.database) == 3
    one = f"{PATH}/{made['id']}"
    gone = await admin.post(f"{one}/replay", json={"from_position": 2})
    assert (gone.status_code, gone.json()["first_position"]) == (410, 4)
    assert (await admin.post(f"{one}/replay", json={})).status_code == 410
    assert (await admin.post(f"{one}/replay", json={"from_position": 4})).json()["cursor"] == 3
