"""The way to a running service, for client.py: tries again what may be, renews the token, and says what went wrong."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx

_SOON = 3.0  # seconds that a first request is tried for: a wrong address should be told at once
_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 5.0


class ClientError(Exception):
    """What went wrong, for a person to read. Each kind is a class of its own below."""


class Refused(ClientError):
    """The service said no. `problem` is its answer (RFC 9457), empty if it was none; `errors` names every bad field."""

    def __init__(self, status: int, problem: Mapping[str, Any], retry_after: float | None = None) -> None:
        self.status = status
        self.problem = problem
        self.retry_after = retry_after
        self.type: str = problem.get("type", "about:blank")
        self.errors: list[dict[str, str]] = problem.get("errors", [])
        said = problem.get("detail") or problem.get("title") or "The service gave no reason."
        request = f", request {problem['request_id']}" if "request_id" in problem else ""
        faults = "".join(
            f"\n  {fault.get('pointer') or fault.get('parameter') or 'body'}: {fault['detail']}"
            for fault in self.errors
        )
        super().__init__(f"{said} ({status}{request}){faults}")


class SignedOut(Refused):
    """The token has expired or is not good, and there was no refresh token to get another with. Sign in again."""


class Unreachable(ClientError):
    """No answer, or none that is one, for as long as was to be tried. A download goes on later where it broke."""


class Connection:
    """Tries again for `patience` seconds what did not come through; the caller sees to it that this is safe."""

    def __init__(self, url: str, token: str, refresh_token: str | None, *, timeout: float, patience: float) -> None:
        self._http = httpx.Client(base_url=url, timeout=timeout, follow_redirects=False)
        self._token, self._refresh_token = token, refresh_token
        self.patience, self._answered = patience, False

    def sign_in(self, email: str, password: str) -> None:
        self._keep(json_of(self.send("POST", "/api/v1/auth/login", data={"username": email, "password": password})))

    def close(self) -> None:
        self._http.close()

    def send(self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **more: Any) -> httpx.Response:
        """Raises Refused, Unreachable."""

        def ask() -> httpx.Response:
            return self._http.request(method, path, headers={**(headers or {}), **self._authorization}, **more)

        return self._try(ask)

    @contextlib.contextmanager
    def opened(self, path: str, headers: Mapping[str, str]) -> Iterator[httpx.Response]:
        """An answer whose bytes are still to come, as they are stored.

        Raises Refused, Unreachable, httpx.TransportError."""
        # a proxy on the way must not compress them: then no range and no digest would fit
        wanted = {"Accept-Encoding": "identity", **headers}
        with contextlib.ExitStack() as held:

            def ask() -> httpx.Response:
                held.close()
                opened = self._http.stream("GET", path, headers={**wanted, **self._authorization})
                answer = held.enter_context(opened)
                if not (answer.is_success or answer.has_redirect_location):
                    answer.read()
                return answer

            answer = self._try(ask)
            if answer.has_redirect_location:
                # the store serves it by itself: its address holds its own permission, and must not get ours
                there, timeout = answer.headers["Location"], self._http.timeout
                answer = held.enter_context(httpx.stream("GET", there, headers=wanted, timeout=timeout))
                if not answer.is_success:
                    raise httpx.RemoteProtocolError(f"the store answered {answer.status_code}")
            yield answer

    def _try(self, ask: Callable[[], httpx.Response]) -> httpx.Response:
        """Ask until there is an answer that is one; raises Refused, Unreachable."""
        began, pause, renewed = time.monotonic(), _FIRST_PAUSE, False
        while True:
            fault: ClientError
            try:
                answer = ask()
                self._answered = True
                if answer.is_success or answer.has_redirect_location or answer.status_code == 304:
                    return answer
                if answer.status_code == 401 and not renewed and (renewed := self._renewed()):
                    continue
                fault = _refusal(answer)
                if not _may_pass(answer):
                    raise fault
            except httpx.TransportError as exc:
                fault = Unreachable(
                    f"The service at {self._http.base_url} cannot be reached: {str(exc) or type(exc).__name__}."
                )
            # a service that never answered is most likely at another address
            if time.monotonic() - began > (self.patience if self._answered else min(_SOON, self.patience)):
                raise fault
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    @property
    def _authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}

    def _renewed(self) -> bool:
        """There is another access token now; raises httpx.TransportError if that cannot be known yet."""
        if self._refresh_token is None:
            return False
        answer = self._http.post("/api/v1/auth/refresh", json={"refresh_token": self._refresh_token})
        if _may_pass(answer):
            raise httpx.RemoteProtocolError(f"it answered {answer.status_code}")
        if answer.is_success:
            self._keep(json_of(answer))
        else:
            self._refresh_token = None
        return answer.is_success

    def _keep(self, pair: Mapping[str, Any]) -> None:
        self._token, self._refresh_token = pair["access_token"], pair["refresh_token"]


def _may_pass(answer: httpx.Response) -> bool:
    """The service, or a proxy before it, asks to come again soon; nothing is wrong with the request."""
    if answer.status_code in (502, 503, 504):
        return True
    soon = seconds_of(answer)
    return answer.status_code in (409, 429) and soon is not None and soon <= _LONGEST_PAUSE


def seconds_of(answer: httpx.Response) -> float | None:
    said = answer.headers.get("Retry-After", "")
    return float(said) if said.isdecimal() else None


def json_of(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        raise Unreachable(f"What answers at {answer.url.host} is not the service: it does not speak JSON.") from None


def _refusal(answer: httpx.Response) -> ClientError:
    if answer.status_code in (502, 503, 504):
        return Unreachable(f"The service at {answer.url.host} is not available ({answer.status_code}).")
    try:
        problem = answer.json()
    except ValueError:
        problem = {}
    kind = SignedOut if answer.status_code == 401 else Refused
    return kind(answer.status_code, problem if isinstance(problem, dict) else {}, seconds_of(answer))
