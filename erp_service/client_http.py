"""HTTP to a running service, for client.py: retries, renewal of the access token, and errors for people to read."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, TypeAlias

import httpx

Notice: TypeAlias = Callable[[str], object]
"""Called with a sentence for a person: the service does not answer and is tried again, or it answers again."""

ShowBytes: TypeAlias = Callable[[int, int], object]
"""Called with the bytes that are done, and with all."""

_CHUNK = 64 * 1024
_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 5.0
_FIRST_CONTACT_SECONDS = 3.0
"""How long a service that has never answered is tried: its URL is most likely wrong, and that should be said soon."""

_CONNECT_SECONDS = 5.0
"""A host that takes longer than this to accept a connection is unreachable for now."""

# What may be retried. An attempt without an answer is retried, too; a 401 once, after the access token was renewed.
_UNAVAILABLE = frozenset({502, 503, 504})
"""The service, or a proxy before it, is unavailable for now."""
_RETRIED_IF_SOON = frozenset({409, 429})
"""Retried only with a `Retry-After` of at most _LONGEST_PAUSE: the Idempotency-Key is in use, or a limit reached."""


class ClientError(Exception):
    """What went wrong, for a person to read. Each kind is a class of its own below."""


class Refused(ClientError):
    """The service refused. `problem` is its answer (RFC 9457), empty if it sent none; `errors` names each bad field."""

    def __init__(self, status: int, problem: Mapping[str, Any], retry_after: float | None = None) -> None:
        self.status = status
        self.problem = problem
        self.retry_after = retry_after
        self.type: str = problem.get("type", "about:blank")
        self.errors: list[dict[str, str]] = problem.get("errors", [])
        message = problem.get("detail") or problem.get("title") or "The service gave no reason."
        request = f", request {problem['request_id']}" if "request_id" in problem else ""
        faults = "".join(
            f"\n  {fault.get('pointer') or fault.get('parameter') or 'body'}: {fault['detail']}"
            for fault in self.errors
        )
        super().__init__(f"{message} ({status}{request}){faults}")


class SignedOut(Refused):
    """The access token is expired or invalid, and there is no refresh token to renew it with. Sign in again."""


class Unreachable(ClientError):
    """No usable answer for as long as the request was retried. A download can continue later where it broke."""


class NotSucceeded(ClientError):
    """The job failed, was canceled or has expired. `job` has the details."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.job = job
        error = job.get("error") or {}
        reason = error.get("detail") or error.get("title")
        what = "import" if "/imports/" in job["links"]["self"] else "export"
        super().__init__(f"The {what} is {job['status']}{f': {reason}' if reason else ''}.")


class NotIntact(ClientError):
    """The digest of the downloaded bytes is not the published one. A file was removed; a stream's reader has it all."""


class Upload:
    """The bytes of a file from its beginning, each time that it is iterated."""

    def __init__(self, file: BinaryIO, show: ShowBytes | None) -> None:
        self._file, self._show = file, show
        self.size = file.seek(0, os.SEEK_END)

    def __iter__(self) -> Iterator[bytes]:
        done = self._file.seek(0)
        while chunk := self._file.read(_CHUNK):
            yield chunk
            done += len(chunk)
            if self._show is not None:
                self._show(done, self.size)


class Connection:
    """Retries a request for up to `patience` seconds; the caller makes sure that it may be sent twice."""

    def __init__(
        self, url: str, token: str, refresh_token: str | None, *, timeout: float, patience: float, notice: Notice
    ) -> None:
        limits = httpx.Timeout(timeout, connect=min(timeout, _CONNECT_SECONDS))
        self._http = httpx.Client(base_url=url, timeout=limits, follow_redirects=False)
        self._token, self._refresh_token = token, refresh_token
        self._notice = notice
        self.patience, self._answered = patience, False

    def sign_in(self, email: str, password: str, code: str | None = None) -> None:
        form = {"username": email, "password": password} | ({} if code is None else {"totp": code})
        self._store_tokens(json_of(self.send("POST", "/api/v1/auth/login", data=form)))

    def close(self) -> None:
        self._http.close()

    def send(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        within: float | None = None,
        **more: Any,
    ) -> httpx.Response:
        """`timeout` shortens the wait for each answer, `within` all attempts together, in seconds.

        Raises Refused, Unreachable."""
        if (shortest := min((limit for limit in (timeout, within) if limit is not None), default=None)) is not None:
            more["timeout"] = min(shortest, self._http.timeout.read or shortest)

        def attempt() -> httpx.Response:
            return self._http.request(method, path, headers={**(headers or {}), **self._authorization}, **more)

        return self._retried(attempt, within)

    @contextlib.contextmanager
    def stream(self, path: str, headers: Mapping[str, str]) -> Iterator[httpx.Response]:
        """An answer whose body is not read yet, with the bytes as they are stored.

        Raises Refused, Unreachable, httpx.TransportError."""
        # identity, because neither ranges nor the digest would fit what a proxy compressed on the way
        headers = {"Accept-Encoding": "identity", **headers}
        with contextlib.ExitStack() as stack:

            def attempt() -> httpx.Response:
                stack.close()
                stream = self._http.stream("GET", path, headers={**headers, **self._authorization})
                answer = stack.enter_context(stream)
                if not (answer.is_success or answer.has_redirect_location):
                    answer.read()
                return answer

            answer = self._retried(attempt)
            if answer.has_redirect_location:
                # The store serves the file itself. Its URL is signed, and it must not get our token.
                url, timeout = answer.headers["Location"], self._http.timeout
                answer = stack.enter_context(httpx.stream("GET", url, headers=headers, timeout=timeout))
                if not answer.is_success:
                    raise httpx.RemoteProtocolError(f"the store answered {answer.status_code}")
            yield answer

    def _retried(self, attempt: Callable[[], httpx.Response], within: float | None = None) -> httpx.Response:
        """The first answer that is not an error. Raises Refused at once, Unreachable after the last attempt."""
        start, pause, noticed = time.monotonic(), _FIRST_PAUSE, False
        error: ClientError
        while True:
            try:
                answer = self._with_valid_token(attempt)
            except httpx.TransportError as exc:
                reason = str(exc).rstrip(".") or type(exc).__name__
                error = Unreachable(f"The service at {self._http.base_url} cannot be reached: {reason}.")
                if isinstance(exc, httpx.UnsupportedProtocol):
                    raise error from None  # no later attempt can do better
            else:
                if answer.is_success or answer.has_redirect_location or answer.status_code == 304:
                    if noticed:
                        self._notice("The service answers again.")
                    return answer
                error = _error_of(answer)
                if not _may_be_retried(answer):
                    raise error
            patience = self.patience if self._answered else min(_FIRST_CONTACT_SECONDS, self.patience)
            patience = patience if within is None else min(within, patience)
            remaining = start + patience - time.monotonic()
            if remaining < 0:
                raise error
            if not noticed:
                self._notice(f"{error} Trying again, for {remaining:.0f} s at most.")
                noticed = True
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _with_valid_token(self, attempt: Callable[[], httpx.Response]) -> httpx.Response:
        answer = attempt()
        self._answered = True
        return attempt() if answer.status_code == 401 and self._renew_token() else answer

    @property
    def _authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}

    def _renew_token(self) -> bool:
        """Whether there is a new access token. Raises httpx.TransportError if the service is unavailable for now."""
        if self._refresh_token is None:
            return False
        answer = self._http.post("/api/v1/auth/refresh", json={"refresh_token": self._refresh_token})
        if _may_be_retried(answer):
            raise httpx.RemoteProtocolError(f"it answered {answer.status_code}")
        if answer.is_success:
            self._store_tokens(json_of(answer))
        else:
            self._refresh_token = None
        return answer.is_success

    def _store_tokens(self, pair: Mapping[str, Any]) -> None:
        self._token, self._refresh_token = pair["access_token"], pair["refresh_token"]


def _may_be_retried(answer: httpx.Response) -> bool:
    if answer.status_code in _UNAVAILABLE:
        return True
    seconds = retry_after(answer)
    return answer.status_code in _RETRIED_IF_SOON and seconds is not None and seconds <= _LONGEST_PAUSE


def retry_after(answer: httpx.Response) -> float | None:
    """In seconds; None if the answer has none, or a date."""
    value = answer.headers.get("Retry-After", "")
    return float(value) if value.isdecimal() else None


def json_of(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        raise Unreachable(f"What answers at {answer.url.host} is not the service: it does not speak JSON.") from None


def _error_of(answer: httpx.Response) -> ClientError:
    if answer.status_code in _UNAVAILABLE:
        return Unreachable(f"The service at {answer.url.host} is not available ({answer.status_code}).")
    try:
        problem = answer.json()
    except ValueError:
        problem = {}
    kind = SignedOut if answer.status_code == 401 else Refused
    return kind(answer.status_code, problem if isinstance(problem, dict) else {}, retry_after(answer))
