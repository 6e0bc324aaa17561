"""Idempotency-Key (draft-ietf-httpapi-idempotency-key-header-07), in the transaction of the effect.

The claim and the record live in the one generator dependency of a writing handler, which therefore knows nothing of
them. Only successes are recorded: a refused request had no effect, so a retry is safe and may succeed."""

import hmac
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from litestar import Request
from litestar.di import NamedDependency
from litestar.response import Response
from litestar.types import ExceptionHandlersMap
from sqlalchemy import text

from erp_service import errors
from erp_service.access.principals import Principal
from erp_service.db import locks
from erp_service.db.engine import Database
from erp_service.db.sessions import WriteSession
from erp_service.db.statements import Prepared
from erp_service.errors import Fault
from erp_service.settings import Settings
from erp_service.web.dependencies import services_of
from erp_service.web.idempotency_models import KEPT_HOURS
from erp_service.web.responses import Answer, rendered_answer

_KEY = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)
_HEADERS = frozenset({"content-type", "location", "etag", "retry-after"})


class Claim(msgspec.Struct, frozen=True):
    user_id: int | None
    key: str
    digest: bytes


class Replay(Exception):
    """The recorded answer, to be sent again. Raised before the handler runs, so that nothing happens twice."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        super().__init__(status)
        self.status, self.headers, self.body = status, headers, body


async def write_session(
    request: Request[Any, Any, Any], who: NamedDependency[Principal]
) -> AsyncGenerator[WriteSession, None]:
    """The dependency `write`: one transaction, committed before the answer starts.

    It depends on `who`, which most handlers that write have too: two that are independent cost a task each."""
    # before the transaction, since it comes at the speed of the client
    body = await request.body() if request.route_handler.opt["idempotent"] else b""
    async with transaction(request, who, body) as db:
        yield db


@asynccontextmanager
async def transaction(request: Request[Any, Any, Any], who: Principal, body: bytes) -> AsyncIterator[WriteSession]:
    """The transaction of `write`, for a handler that reads its body itself: `body` is what tells one body from another,
    such as its digest. The handler has its answer rendered inside (ApiResponse.to_asgi_response)."""
    async with services_of(request.app).find(Database).write() as db:
        claimed = await _claim(db, request, who, body)
        yield db
        if claimed is not None:
            await _record(db, claimed, rendered_answer(request))


async def _claim(db: WriteSession, request: Request[Any, Any, Any], who: Principal, body: bytes) -> Claim | None:
    key = request.headers.get("idempotency-key")
    if key is None or not request.route_handler.opt["idempotent"]:
        return None
    if not _KEY.fullmatch(key):
        fault = Fault("must be 1 to 255 visible ASCII characters", parameter="Idempotency-Key")
        raise errors.Invalid(None, fault)
    if who.key is not None:
        # Each API key has its own: two of one user may have other scopes, and must not see each other's answers. No
        # client can send a blank.
        key = f"{who.key.id} {key}"
    claim = {"key": key, "user_id": who.user_id}
    is_free, digest, status, headers, answer = (await db.execute(_CLAIM, claim)).one()
    if not is_free:
        raise errors.StillRunning(headers={"Retry-After": "1"})
    digests = _digests(request, body)
    if digest is None:
        return Claim(who.user_id, key, digests[0])
    if digest not in digests:
        raise errors.KeyReused
    # the first answer may never have been given, because no standby had confirmed what it says
    await db.commit_replicated()
    raise Replay(status, headers, answer)


# The record is looked up by a snapshot from before the lock: a request with the same key that has committed in between
# is not seen here, but by _RECORD, which then writes nothing.
_CLAIM = Prepared(
    text(f"""
    select {locks.TRY_IDEMPOTENCY_KEY}, r.digest, r.status, r.headers, r.body
    from (values (cast(:user_id as bigint), cast(:key as text))) claim (user_id, key)
    left join idempotency r on r.user_id = claim.user_id and r.key = claim.key
      and r.created_at > now() - make_interval(hours => {KEPT_HOURS})
    """)  # noqa: S608 constants
)
# an expired record may still be there: housekeeping removes it later
_RECORD = Prepared(
    text(f"""
    insert into idempotency as r (user_id, key, digest, status, headers, body, created_at)
    values (:user_id, :key, :digest, :status, :headers, :body, now())
    on conflict (user_id, key) do update set digest = excluded.digest, status = excluded.status,
      headers = excluded.headers, body = excluded.body, created_at = excluded.created_at
    where r.created_at <= now() - make_interval(hours => {KEPT_HOURS})
    """)  # noqa: S608 constants
)


def _digests(request: Request[Any, Any, Any], body: bytes) -> list[bytes]:
    """The digest of the request, keyed with each secret, newest first. Keyed, since a body may hold a password, which
    nobody who reads the table must be able to guess; with every secret, since a retry may come after a rotation."""
    scope = request.scope
    parts = (scope["method"].encode(), scope["path"].encode(), scope["query_string"], body)
    message = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
    return [
        hmac.digest(b"idempotency:" + secret.encode(), message, "sha256")
        for secret in services_of(request.app).find(Settings).jwt_secrets
    ]


async def _record(db: WriteSession, claim: Claim, answer: Answer) -> None:
    headers = {name.decode(): value.decode("latin-1") for name, value in answer.headers}
    record = {
        "user_id": claim.user_id,
        "key": claim.key,
        "digest": claim.digest,
        "status": answer.status_code,
        "headers": {name: value for name, value in headers.items() if name in _HEADERS},
        "body": answer.body,
    }
    if not await db.row_count(_RECORD, record):
        # all that this request has done is rolled back; the answer of the other one comes with the next try
        raise errors.StillRunning(headers={"Retry-After": "1"})


def on_replay(_request: Request[Any, Any, Any], exc: Replay) -> Response[bytes]:
    headers = {"Idempotency-Replayed": "true", "Cache-Control": "no-store"} | {
        n: v for n, v in exc.headers.items() if n != "content-type"
    }
    media_type = exc.headers.get("content-type", "application/json")
    return Response(exc.body, status_code=exc.status, headers=headers, media_type=media_type)


HANDLERS: ExceptionHandlersMap = {Replay: on_replay}
