"""Delivering: in order, at least once, to each endpoint as if there were no other."""

import asyncio
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg
import msgspec
import pytest
from standardwebhooks import Webhook

from erp_service.db.engine import Database
from erp_service.events.webhooks import delivery
from erp_service.events.webhooks.context import Slice, WebhookContext
from erp_service.events.webhooks.lifecycle import MOST_RETRYING, Run
from erp_service.events.webhooks.sending.retries import Retries
from erp_service.queue.attempts import JobAttempt
from erp_service.settings import Settings
from tests.events.webhooks.endpoints import PATH, Jobs, deliveries, happen, make, seen
from tests.events.webhooks.receiving import Received, Receiver, Reply, receiving
from tests.support.clients import UserClient


@pytest.fixture
def jobs(owner: asyncpg.Connection, context: WebhookContext) -> Jobs:
    return Jobs(owner, context)


async def test_events_arrive_as_the_feed_has_them_in_order_and_signed(
    admin: UserClient, receiver: Receiver, jobs: Jobs, settings: Settings, database: Database
) -> None:
    made = await make(admin, receiver.url(), types=["item.updated", "item.created"])
    await happen(settings, database, "item.created", "location.created", "item.updated", "item.deleted")
    assert await jobs.deliver(made)
    feed = (await admin.get("/api/v1/events", params={"types": "item.created,item.updated"})).json()["items"]
    assert [request.position for request in receiver.requests] == [event["position"] for event in feed]
    for request, event in zip(receiver.requests, feed, strict=True):
        body = Webhook(made["secret"]).verify(request.raw, request.headers)
        assert body == {
            "type": event["type"],
            "timestamp": event["at"],
            "data": event["data"],
            "position": event["position"],
            "subject": event["subject"],
        }
        assert b": " not in request.raw
    assert len({request.id for request in receiver.requests}) == 2
    now = await seen(admin, made)
    assert (now["lag"], now["last_error"], now["failures"]) == (0, None, 0)
    assert now["last_success_at"] is not None
    assert [(one["position"], one["attempt"], one["status"]) for one in await deliveries(admin, made)] == [
        (request.position, 1, 204) for request in receiver.requests[::-1]
    ]
    assert not await jobs.deliver(made), "nothing is left to do"


async def test_what_an_endpoint_is_not_told_of_needs_no_job(
    admin: UserClient, receiver: Receiver, jobs: Jobs, settings: Settings, database: Database
) -> None:
    made = await make(admin, receiver.url(), types=["user.created"])
    await happen(settings, database, *["item.updated"] * 5)
    assert await jobs.start(made) is None
    assert (await seen(admin, made))["lag"] == 0
    off = await make(admin, "https://shop.example.com/", is_active=False)
    await happen(settings, database, "item.updated")
    assert await jobs.start(off) is None
    assert (await seen(admin, off))["lag"] == 1 + 1  # with its own creation


async def test_two_workers_that_look_at_once_make_one_job(
    admin: UserClient, receiver: Receiver, jobs: Jobs, settings: Settings, database: Database, context: WebhookContext
) -> None:
    made = await make(admin, receiver.url())
    await happen(settings, database, "item.updated")
    await asyncio.gather(*(delivery.start_due(context) for _ in range(8)))
    args = {"webhook_id": made["id"]}
    count = "select count(*) from procrastinate_jobs where args = $1::jsonb"
    assert await jobs.owner.fetchval(count, msgspec.json.encode(args).decode()) == 1


async def test_refused_event_stops_those_after_it_until_it_is_taken(
    admin: UserClient, receiver: Receiver, jobs: Jobs, settings: Settings, database: Database
) -> None:
    made = await make(admin, receiver.url(), types=["item.updated"])
    await happen(settings, database, *["item.updated"] * 4)
    first = made["cursor"] + 2  # after its own creation
    refused = 0

    def answer(request: Received) -> Reply:
        nonlocal refused
        if request.position == first + 1 and refused < 3:
            refused += 1
            return Reply(500, {}, b"no such item")
        return Reply()

    receiver.answer = answer
    assert await jobs.deliver(made)
    blocked = await seen(admin, made)
    assert (blocked["cursor"], blocked["blocked_position"], blocked["failures"]) == (first, first + 1, 1)
    assert blocked["last_error"] == "answered 500"
    assert blocked["next_attempt_at"] >= blocked["blocked_since"]
    while (await seen(admin, made))["lag"]:
        await jobs.deliver(made)
    assert receiver.positions == [first, *[first + 1] * 4, first + 2, first + 3]
    ids = {request.id for request in receiver.requests if request.position == first + 1}
    assert len(ids) == 1, "a repetition can be known by its id"
    assert [(one["attempt"], one["status"], one["response"]) for one in (await deliveries(admin, made))[::-1]][:5] == [
        (1, 204, ""),
        *((attempt, 500, "no such item") for attempt in (1, 2, 3)),
        (4, 204, ""),
    ]
    after = await seen(admin, made)
    assert (after["blocked_position"], after["blocked_since"], after["failures"]) == (None, None, 0)


async def test_pause_is_waited_for(
    admin: UserClient, receiver: Receiver, jobs: Jobs, settings: Settings, database: Database
) -> None:
    jobs = Jobs(jobs.owner, msgspec.structs.replace(jobs.context, retries=Retries()))
    made = await make(admin, receiver.url())
    await happen(settings, database, "item.updated")
    receiver.answer = lambda _: Reply(503, {"Retry-After": "3600"})
    assert await jobs.deliver(made)
    blocked = await seen(admin, made)
    pause = datetime.fromisoformat(blocked["next_attempt_at"]) - datetime.fromisoformat(blocked["blocked_since"])
    assert pause == timedelta(hours=1)
    assert await jobs.start(made) is None
    # until somebody who has mended the receiver says so
    receiver.answer = lambda _: Reply()
    await admin.patch(f"{PATH}/{made['id']}", json={"types": ["item.updated", "item.created"]})
    assert await jobs.deliver(made)
    assert (await seen(admin, made))["lag"] == 0


async def test_endpoint_that_is_gone_is_switched_off_at_once_and_replay_goes_on(
    admin: UserClient, receiver: Receiver, jobs: Jobs, settings: Settings, database: Database
) -> None:
    made = await make(admin, receiver.url(), types=["item.updated"])
    await happen(settings, database, "item.updated", "item.updated")
    receiver.answer = lambda _: Reply(410)
    assert await jobs.deliver(made)
    off = await seen(admin, made)
    assert (off["is_active"], off["disabled_because"], off["last_error"]) == (False, "GONE", "answered 410")
    assert off["version"] > made["version"]
    assert await jobs.start(made) is None
    audit = await admin.get("/api/v1/audit", params={"entity_id": made["id"], "action": "webhook.disabled"})
    (entry,) = audit.json()["items"]
    assert (entry["actor"], entry["after"]["disabled_because"]) == ("webhooks", "GONE")
    receiver.answer = lambda _: Reply()
    again = await admin.post(f"{PATH}/{made['id']}/replay", json={})
    assert (again.json()["is_active"], again.json()["disabled_because"]) == (True, None)
    assert await jobs.deliver(made)
    assert receiver.positions == [off["blocked_position"], off["blocked_position"], off["blocked_position"] + 1]


async def test_endpoint_that_fails_for_too_long_is_switched_off_and_can_skip_what_it_refuses(
    admin: UserClient, receiver: Receiver, jobs: Jobs, settings: Settings, database: Database
) -> None:
    made = await make(admin, receiver.url(), types=["item.updated"])
    await happen(settings, database, "item.updated", "item.updated")
    receiver.answer = lambda request: Reply(400) if request.position == made["cursor"] + 2 else Reply()
    assert await jobs.deliver(made)
    await jobs.owner.execute("update webhooks set blocked_since = blocked_since - interval '3 days'")
    assert await jobs.deliver(made)
    off = await seen(admin, made)
    assert (off["is_active"], off["disabled_because"], off["failures"]) == (False, "FAILED", 2)
    assert off["next_attempt_at"] is None
    skip = {"from_position": off["blocked_position"] + 1}
    assert (await admin.post(f"{PATH}/{made['id']}/replay", json=skip)).status_code == 200
    assert await jobs.deliver(made)
    assert receiver.positions[-1] == off["blocked_position"] + 1
    assert (await seen(admin, made))["lag"] == 0


async def test_worker_that_lost_the_job_writes_nothing_more(
    admin: UserClient, receiver: Receiver, jobs: Jobs, settings: Settings, database: Database, context: WebhookContext
) -> None:
    """A worker that was paused in the middle of a request, and resumes after another has delivered the rest."""
    made = await make(admin, receiver.url(), types=["item.updated"])
    await happen(settings, database, *["item.updated"] * 3)
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def pause_first(request: Received) -> Reply:
        if not arrived.is_set():
            arrived.set()
            await go_on.wait()
        return Reply()

    receiver.answer = pause_first
    run = await jobs.start(made)
    assert run is not None
    paused = asyncio.create_task(delivery.deliver(context, run))
    await arrived.wait()
    # the rescue of its job is another attempt
    rescued = msgspec.structs.replace(run, job=JobAttempt(run.job.job_id, run.job.attempt + 1))
    await delivery.deliver(context, rescued)
    done = await seen(admin, made)
    go_on.set()
    await paused
    assert await seen(admin, made) == done
    first = made["cursor"] + 2
    assert receiver.positions == [first, first, first + 1, first + 2]
    await delivery.deliver(context, run)  # and cannot begin again
    assert len(receiver.requests) == 4


@pytest.mark.parametrize("change", ["off", "elsewhere", "replay", "delete", "secret"])
async def test_change_during_a_request_holds_after_it(
    admin: UserClient, receiver: Receiver, jobs: Jobs, settings: Settings, database: Database, change: str
) -> None:
    made = await make(admin, receiver.url(), types=["item.updated"])
    await happen(settings, database, *["item.updated"] * 3)
    one, first = f"{PATH}/{made['id']}", made["cursor"] + 2

    async def answer(request: Received) -> Reply:
        if len(receiver.requests) == 1:
            match change:
                case "off":
                    await admin.patch(one, json={"is_active": False})
                case "elsewhere":
                    await admin.patch(one, json={"url": receiver.url(path="/elsewhere")})
                case "replay":
                    await admin.post(f"{one}/replay", json={"from_position": first + 2})
                case "secret":
                    await admin.post(f"{one}/rotate-secret")
                case "delete":
                    await admin.delete(one)
        return Reply()

    receiver.answer = answer
    assert await jobs.deliver(made)
    assert receiver.positions == [first], "the job stops after the event in hand"
    if change == "delete":
        assert await jobs.owner.fetchval("select count(*) from webhook_deliveries") == 0
        return
    now = await seen(admin, made)
    assert now["cursor"] == (first + 1 if change == "replay" else first)
    assert await jobs.deliver(made) == (change != "off")
    assert receiver.positions[1:] == {"off": [], "replay": [first + 2]}.get(change, [first + 1, first + 2])
    if change == "elsewhere":
        assert {request.path for request in receiver.requests[1:]} == {"/elsewhere"}
    if change == "secret":
        assert " " in receiver.requests[1].headers["webhook-signature"]


@pytest.mark.parametrize("status", [410, 500])
async def test_new_address_is_not_judged_by_what_the_former_one_answers(
    admin: UserClient, receiver: Receiver, jobs: Jobs, settings: Settings, database: Database, status: int
) -> None:
    made = await make(admin, receiver.url(), types=["item.updated"])
    await happen(settings, database, "item.updated")

    async def answer(request: Received) -> Reply:
        if request.path == "/new":
            return Reply()
        await admin.patch(f"{PATH}/{made['id']}", json={"url": receiver.url(path="/new")})
        return Reply(status)

    receiver.answer = answer
    assert await jobs.deliver(made)
    now = await seen(admin, made)
    assert (now["is_active"], now["failures"], now["next_attempt_at"]) == (True, 0, None)
    assert await jobs.deliver(made)
    assert [request.path for request in receiver.requests] == ["/hook", "/new"]
    assert [one["status"] for one in await deliveries(admin, made)] == [204, status]


async def test_endpoints_that_are_away_leave_slots_to_those_that_are_there(
    admin: UserClient, receiver: Receiver, jobs: Jobs, settings: Settings, database: Database, unused_port: int
) -> None:
    away = [await make(admin, f"http://127.0.0.1:{unused_port}/{n}", types=["item.updated"]) for n in range(7)]
    there = await make(admin, receiver.url(), types=["item.updated"])
    await happen(settings, database, "item.updated")
    for one in (*away, there):
        assert await jobs.deliver(one)
    await jobs.owner.execute("delete from procrastinate_jobs")
    await happen(settings, database, "item.updated")
    for _ in range(2):
        await delivery.start_due(jobs.context)
        waiting = await jobs.owner.fetch("select args ->> 'webhook_id' from procrastinate_jobs order by id")
        assert waiting[0][0] == there["id"], "first those that took everything"
        assert len(waiting) == 1 + MOST_RETRYING


async def test_what_cannot_be_signed_is_not_sent(
    admin: UserClient, receiver: Receiver, jobs: Jobs, settings: Settings, database: Database
) -> None:
    made = await make(admin, receiver.url())
    await happen(settings, database, "item.updated")
    await jobs.owner.execute("delete from webhook_secrets")
    assert await jobs.deliver(made)
    assert receiver.requests == []
    assert (await seen(admin, made))["failures"] == 1


async def test_no_connection_to_the_database_is_held_during_a_request(
    admin: UserClient, receiver: Receiver, jobs: Jobs, settings: Settings, database: Database, context: WebhookContext
) -> None:
    made = await make(admin, receiver.url())
    await happen(settings, database, "item.updated")
    in_use: list[int] = []

    def answer(_request: Received) -> Reply:
        in_use.append(context.database.pool()["in_use"])
        return Reply()

    receiver.answer = answer
    assert await jobs.deliver(made)
    assert in_use == [0] * len(receiver.requests)


async def test_long_backlog_is_delivered_in_turns(
    admin: UserClient, receiver: Receiver, jobs: Jobs, settings: Settings, database: Database
) -> None:
    turns = Jobs(jobs.owner, msgspec.structs.replace(jobs.context, slice=Slice(events=3, batch=2)))
    made = await make(admin, receiver.url(), types=["item.updated"])
    await happen(settings, database, *["item.updated"] * 8)
    run = await turns.start(made)
    assert run is not None
    await delivery.deliver(turns.context, run)
    assert len(receiver.requests) == 3
    following = await turns.waiting(made["id"])
    assert following is not None, "the next turn waits behind those of others"
    await delivery.start_due(turns.context)
    assert await turns.waiting(made["id"]) == following, "and is the only one"
    await turns.end(run)
    await turns.owner.execute("delete from procrastinate_jobs")
    while await turns.deliver(made):
        await turns.owner.execute("delete from procrastinate_jobs")
    first = made["cursor"] + 2
    assert receiver.positions == list(range(first, first + 8))


async def test_job_that_failed_or_was_lost_is_made_good(
    admin: UserClient, receiver: Receiver, jobs: Jobs, settings: Settings, database: Database
) -> None:
    made = await make(admin, receiver.url())
    await happen(settings, database, "item.updated")
    run = await jobs.start(made)
    assert run is not None
    assert await jobs.start(made) is None
    await jobs.owner.execute("update procrastinate_jobs set status = 'failed' where id = $1", run.job.job_id)
    assert await jobs.deliver(made)
    assert (await seen(admin, made))["lag"] == 0


async def test_fault_of_ours_pauses_the_endpoint_and_not_the_worker(
    admin: UserClient, receiver: Receiver, jobs: Jobs, settings: Settings, database: Database
) -> None:
    """A row that no version of this service has written: the next job would fail in the same way a second later."""
    made = await make(admin, receiver.url())
    await happen(settings, database, "item.updated")
    await jobs.owner.execute("update webhooks set url = 'gopher://shop'")
    assert await jobs.deliver(made)
    now = await seen(admin, made)
    assert (now["failures"], now["blocked_position"]) == (1, made["cursor"] + 1)
    assert "a fault of this service" in now["last_error"]


async def test_endpoints_do_not_wait_for_each_other(
    admin: UserClient, receiver: Receiver, jobs: Jobs, settings: Settings, database: Database, context: WebhookContext
) -> None:
    async with receiving() as slow:
        release = asyncio.Event()

        async def hang(_request: Received) -> Reply:
            await release.wait()
            return Reply()

        slow.answer = hang
        hanging, prompt = await make(admin, slow.url()), await make(admin, receiver.url())
        await happen(settings, database, *["item.updated"] * 3)
        run = await jobs.start(hanging)
        assert run is not None
        stuck = asyncio.create_task(delivery.deliver(context, run))
        job_id = await jobs.waiting(prompt["id"])
        assert job_id is not None
        await delivery.deliver(context, Run(UUID(prompt["id"]), JobAttempt.of_row(job_id, 0)))
        assert not stuck.done()
        assert (await seen(admin, prompt))["lag"] == 0
        release.set()
        await stuck
