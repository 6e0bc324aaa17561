"""A client of a running service, for scripts and for `erp export`: submit, follow, download, resume, check.

with Client("http://127.0.0.1:8000", token) as erp:
    job = erp.submit("stock_movements")
    job = erp.follow(job, show=print)
    erp.download(job, Path("movements.csv"))
"""

import base64
import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self
from uuid import uuid4

import httpx

Job = dict[str, Any]
FINAL = frozenset({"succeeded", "failed", "canceled", "expired"})
_TRIES = 8
_CHUNK = 1 << 20


class ClientError(Exception):
    """The service refused, or could not be reached; the message is for a person."""


class NotIntact(ClientError):
    """What was downloaded is not what the service published: its digest differs. The file was removed."""


class Client:
    """Talks to one service. Requests that failed on the way are tried again, safely: submissions carry a key."""

    def __init__(self, url: str, token: str, *, timeout: float = 30.0) -> None:
        self._http = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=timeout, follow_redirects=False
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def submit(self, dataset: str, **spec: object) -> Job:
        """Submit an export; a lost answer is asked for again with the same key, so it is submitted once."""
        body = {"dataset": dataset, **spec}
        answer = self._send("POST", "/api/v1/exports/jobs", json=body, headers={"Idempotency-Key": str(uuid4())})
        return answer.json()  # type: ignore[no-any-return]

    def job(self, job_id: str) -> Job:
        return self._send("GET", f"/api/v1/exports/jobs/{job_id}").json()  # type: ignore[no-any-return]

    def follow(self, job: Job, *, show: Callable[[Job], object] | None = None) -> Job:
        """Poll as often as the service asks for, until the job is final; raises ClientError unless it succeeded."""
        while job["status"] not in FINAL:
            time.sleep(0.3)
            job = self.job(job["id"])
            if show is not None:
                show(job)
        if job["status"] != "succeeded":
            raise ClientError(f"The export {job['status']}: {(job.get('error') or {}).get('detail') or 'see the job'}")
        return job

    def download(self, job: Job, path: Path, *, show: Callable[[int, int], object] | None = None) -> None:
        """Download to `path`, which appears only when its digest is right; a broken download goes on where it broke.

        `show` is called with bytes done and bytes in all. Raises NotIntact."""
        part = path.with_name(f"{path.name}.{job['id']}.part")
        for tries in range(1, _TRIES + 1):
            try:
                with part.open("ab") as file:
                    self._rest(job, file, show)
                break
            except httpx.TransportError as exc:
                if tries == _TRIES:
                    raise ClientError(f"The download broke {tries} times: {exc}. Run it again to go on.") from exc
                time.sleep(min(2.0**tries / 10, 5))
        self._check(job, part)
        part.replace(path)

    def _rest(self, job: Job, file: BinaryIO, show: Callable[[int, int], object] | None) -> None:
        total, done = job["result"]["bytes"], file.tell()
        if done == total:
            return
        # If-Range: should the file be another by now, all of it comes (RFC 9110, 13.1.5)
        headers = {"Range": f"bytes={done}-", "If-Range": f'"{job["result"]["sha256"]}"'} if done else {}
        with self._http.stream("GET", f"/api/v1/exports/jobs/{job['id']}/download", headers=headers) as answer:
            if answer.status_code not in (200, 206):
                answer.read()
                raise _refused(answer)
            if answer.status_code == 200 and done:
                file.truncate(0)
                done = 0
            for chunk in answer.iter_raw(_CHUNK):
                file.write(chunk)
                done += len(chunk)
                if show is not None:
                    show(done, total)

    def _check(self, job: Job, part: Path) -> None:
        digest = hashlib.sha256()
        with part.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
        if digest.hexdigest() != job["result"]["sha256"]:
            part.unlink()
            raise NotIntact(f"The download is not intact ({_short(digest.digest())}); nothing was kept. Try again.")

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        for tries in range(1, _TRIES + 1):
            try:
                answer = self._http.request(method, path, **options)
            except httpx.TransportError as exc:
                if tries == _TRIES:
                    raise ClientError(f"The service at {self._http.base_url} cannot be reached: {exc}") from exc
                time.sleep(min(2.0**tries / 10, 5))
                continue
            if answer.status_code in (409, 429, 503) and "Retry-After" in answer.headers and tries < _TRIES:
                time.sleep(min(float(answer.headers["Retry-After"]), 30))
                continue
            if answer.is_success:
                return answer
            raise _refused(answer)
        raise AssertionError("the last try returns or raises")


def sign_in(url: str, email: str, password: str) -> str:
    """An access token; raises ClientError."""
    try:
        answer = httpx.post(f"{url}/api/v1/auth/login", data={"username": email, "password": password}, timeout=30)
    except httpx.TransportError as exc:
        raise ClientError(f"The service at {url} cannot be reached: {exc}") from exc
    if not answer.is_success:
        raise _refused(answer)
    return str(answer.json()["access_token"])


def _refused(answer: httpx.Response) -> ClientError:
    try:
        problem = answer.json()
    except ValueError:
        return ClientError(f"The service answered {answer.status_code}.")
    faults = "".join(
        f"\n  {fault.get('pointer') or fault.get('parameter') or ''}: {fault['detail']}"
        for fault in problem.get("errors", [])
    )
    said = problem.get("detail") or problem.get("title") or answer.reason_phrase
    return ClientError(f"{said} ({answer.status_code}, request {problem.get('request_id')}){faults}")


def _short(digest: bytes) -> str:
    return base64.b16encode(digest[:6]).decode().lower()
