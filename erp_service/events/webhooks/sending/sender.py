"""One request to an endpoint: bounded in time and in what is read of the answer. No redirect is followed, no proxy of
the environment is used, no cookie is kept: httpcore does none of these."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from time import monotonic

import certifi
import httpcore
from msgspec import Struct

from erp_service.events.webhooks.sending.addresses import Network
from erp_service.events.webhooks.sending.connection import AddressRefused, CheckedNetwork, Resolve, Resolver
from erp_service.events.webhooks.sending.targets import Target

EXCERPT_BYTES = 1024
_READ_BYTES = 64 * 1024  # a longer answer costs the connection, which is then not used again
GONE = 410
_WAIT_STATUSES = frozenset({429, 503})


class Outcome(Struct, frozen=True):
    """What came of one request. `status` is that of HTTP, and `error` says why there is none; `excerpt` is how the
    answer begins, without control characters. `retry_after` is the wish of the endpoint, in seconds."""

    milliseconds: int
    status: int | None = None
    error: str | None = None
    excerpt: str = ""
    retry_after: float | None = None

    @property
    def is_delivered(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def is_gone(self) -> bool:
        """The endpoint asks to be left alone for ever (RFC 9110, 15.5.11)."""
        return self.status == GONE

    @property
    def fault(self) -> str:
        """Why it was not delivered, in one clause."""
        if self.error is not None:
            return self.error
        redirects = self.status is not None and 300 <= self.status < 400
        return f"answered {self.status}" + (", and redirects are not followed" if redirects else "")


class Channel:
    """Requests to one endpoint, one after the other, over one connection as long as the endpoint keeps it."""

    def __init__(self, pool: httpcore.AsyncConnectionPool, target: Target, seconds: float) -> None:
        self._pool, self._target, self._seconds = pool, target, seconds

    async def post(self, headers: Mapping[str, str], body: bytes) -> Outcome:
        """Raises nothing but CancelledError and what is a fault of ours."""
        started = monotonic()
        try:
            async with asyncio.timeout(self._seconds):
                status, answer, excerpt = await self._exchange(headers, body)
        except TimeoutError:
            return Outcome(_since(started), error=f"no answer within {self._seconds:g} s")
        except (AddressRefused, OSError, httpcore.NetworkError, httpcore.TimeoutException) as exc:
            return Outcome(_since(started), error=_network_fault(exc))
        except (httpcore.ProtocolError, httpcore.UnsupportedProtocol):
            return Outcome(_since(started), error="the answer is not HTTP/1.1, or ended too early")
        wish = _retry_after(answer.get("retry-after")) if status in _WAIT_STATUSES else None
        return Outcome(_since(started), status, excerpt=excerpt, retry_after=wish)

    async def _exchange(self, headers: Mapping[str, str], body: bytes) -> tuple[int, dict[str, str], str]:
        url = httpcore.URL(
            scheme=self._target.scheme, host=self._target.host, port=self._target.port, target=self._target.target
        )
        own = {
            "Host": self._target.authority,
            "User-Agent": "erp-service",
            "Accept": "*/*",
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
        }
        async with self._pool.stream("POST", url, headers=[*{**own, **headers}.items()], content=body) as response:
            kept, total = b"", 0
            async for chunk in response.aiter_stream():
                kept += chunk[: EXCERPT_BYTES - len(kept)]
                total += len(chunk)
                if total > _READ_BYTES:
                    break
        answer = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
        return response.status, answer, _plain(kept)


class Sender:
    """What one process sends webhooks with. It connects to public addresses and those in `allowed`; without encryption
    only to the latter, unless `plain_http`."""

    def __init__(
        self,
        allowed: Sequence[Network],
        *,
        plain_http: bool,
        seconds: float = 15.0,
        resolve: Resolve | None = None,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        self.allowed, self.plain_http = tuple(allowed), plain_http
        self._seconds = seconds
        self._resolver = Resolver()
        self._resolve = resolve or self._resolver
        self._trust = trust

    @asynccontextmanager
    async def channel(self, target: Target) -> AsyncIterator[Channel]:
        within = not (target.is_encrypted or self.plain_http)
        pool = httpcore.AsyncConnectionPool(
            ssl_context=self._context() if target.is_encrypted else None,
            max_connections=1,
            network_backend=CheckedNetwork(self._resolve, self.allowed, within=within),
        )
        async with pool:
            yield Channel(pool, target, self._seconds)

    def close(self) -> None:
        self._resolver.close()

    def _context(self) -> ssl.SSLContext:
        """Read when it is first needed: it takes tens of milliseconds."""
        if self._trust is None:
            # those of the system, with what its operator added (SSL_CERT_FILE), and Mozilla's
            self._trust = ssl.create_default_context()
            self._trust.load_verify_locations(certifi.where())
        return self._trust


def _since(started: float) -> int:
    return round((monotonic() - started) * 1000)


def _network_fault(exc: BaseException) -> str:
    """It names no address: whoever makes webhooks need not learn what names lead to inside the operator's network."""
    if isinstance(exc, AddressRefused):
        return "the host has an address that is not public, or http is used outside the networks of the operator"
    # httpcore's errors have the cause inside
    inside: BaseException | None = exc
    while inside is not None:
        if isinstance(inside, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted: {inside.verify_message}"
        if isinstance(inside, ssl.SSLError):
            return "no encrypted connection can be made"
        inside = inside.__cause__ or inside.__context__
    if isinstance(exc, httpcore.TimeoutException | httpcore.ConnectError):
        return "it cannot be connected to"
    if isinstance(exc, httpcore.NetworkError):
        return "the connection broke"
    return "its name cannot be resolved"


def _plain(excerpt: bytes) -> str:
    text = excerpt.decode("utf-8", "replace")
    return "".join(character if character.isprintable() else " " for character in text).strip()


def _retry_after(value: str | None) -> float | None:
    """Seconds, from a number or a date (RFC 9110, 10.2.3); None for anything else."""
    if value is None:
        return None
    if re.fullmatch(r"[0-9]{1,9}", value):
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    # a date without a zone is in UTC
    seconds = (at if at.tzinfo else at.replace(tzinfo=UTC)) - datetime.now(UTC)
    return max(0.0, seconds.total_seconds())
