"""A client of a running service, for scripts and for `erp export`: submit, follow, download, resume, check.

All in one call. The file appears under its name only when it is complete and its digest is right:

>>> with Client.sign_in(url, email, password) as erp:
...     job = erp.export("items", Path("items.csv"), columns=["sku", "name"], filter={"status": "ACTIVE"})
...     print(job["result"]["rows"], "rows")
2 rows

Or step by step, with an estimate first, with progress, and into a pipe or any other object that has `write`:

>>> with Client(url, token) as erp:
...     if erp.estimate("items", format="csv")["rows"] < 1_000_000:
...         job = erp.submit("items", format="csv", csv={"delimiter": ";"}, filename="items-{date}")
...         job = erp.follow(job, show=lambda job: print(job["progress"]["percent"], file=log))
...         erp.download(job, sys.stdout.buffer)

A refusal has every fault that the service named:

>>> with Client(url, token) as erp:
...     try:
...         erp.submit("items", columns=["colour"], sort="weight")
...     except Refused as refused:
...         print(refused.status, [fault["pointer"] for fault in refused.errors])
422 ['/columns/0', '/sort']

A script that was stopped can be run again and continues: `erp.export` submits nothing twice while the first job waits
or runs, and a download to a path continues the part that is on the disk, which it finds by the job's id.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Literal, Protocol, Self, TypedDict, Unpack
from urllib.parse import quote
from uuid import uuid4

import httpx

from erp_service.client_http import ClientError as ClientError
from erp_service.client_http import Connection, Notice, ShowBytes, Upload, json_of, retry_after
from erp_service.client_http import NotIntact as NotIntact
from erp_service.client_http import NotSucceeded as NotSucceeded
from erp_service.client_http import Refused as Refused
from erp_service.client_http import SignedOut as SignedOut
from erp_service.client_http import Unreachable as Unreachable

Job = dict[str, Any]
"""The JSON object of `GET /api/v1/exports/jobs/{id}`: see the documentation of the API."""
Show = Callable[[Job], object]

JOBS = "/api/v1/exports/jobs"
ESTIMATES = "/api/v1/exports/estimates"
IMPORTS = "/api/v1/imports/jobs"
FINAL = frozenset({"succeeded", "failed", "canceled", "expired"})

_WAIT_SECONDS = 10
_ANSWER_SECONDS = 5.0
"""How much later than the wait that a request asks for its answer may come: then the service is not there."""
_PAUSE_SECONDS = 0.3


_For = TypedDict("_For", {"for": str}, total=False)  # a keyword of Python, so it cannot stand in a class


class Options(_For, total=False):
    """The options of an export. The service has the defaults, and names each option that it refuses."""

    format: str
    compression: Literal["none", "gzip", "zstd"]
    columns: Sequence[str]
    filter: Mapping[str, str | int | bool]
    sort: str
    csv: Mapping[str, object]
    timezone: str
    filename: str
    retention_hours: int
    force_new: bool


class Writable(Protocol):
    def write(self, data: bytes, /) -> object: ...


class Client:
    """Talks to one service. Requests without an answer are sent again, safely: submissions have an Idempotency-Key.

    With a refresh token, an access token that expires during a long export is renewed. `patience` says for how many
    seconds a request is retried if the service answered before. `notice` is called with a sentence as soon as a request
    has no answer and is retried, and with another when there is an answer again. For one thread at a time."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        refresh_token: str | None = None,
        timeout: float = 30.0,
        patience: float = 120.0,
        notice: Notice | None = None,
    ) -> None:
        self._service = Connection(
            url, token, refresh_token, timeout=timeout, patience=patience, notice=notice or (lambda _sentence: None)
        )

    @classmethod
    def sign_in(
        cls, url: str, email: str, password: str, *, code: Callable[[], str] | None = None, **options: Any
    ) -> Self:
        """A client that stays signed in. `code` is asked for the code of a second factor, if the user has one. Takes
        the options of the constructor; raises Refused, Unreachable."""
        client = cls(url, "", **options)
        try:
            try:
                client._service.sign_in(email, password)
            except Refused as refused:
                if code is None or refused.type != "/problems/second-factor-needed":
                    raise
                client._service.sign_in(email, password, code())
        except BaseException:
            client.close()
            raise
        return client

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._service.close()

    def datasets(self) -> list[dict[str, Any]]:
        """The datasets that can be exported: names, columns with types, filters, sorts, formats."""
        return json_of(self._service.send("GET", "/api/v1/exports/datasets"))["items"]  # type: ignore[no-any-return]

    def estimate(self, dataset: str, **options: Unpack[Options]) -> dict[str, Any]:
        """How many rows, bytes and seconds the export would have; submits nothing. Raises Refused as `submit` does."""
        body = {"dataset": dataset, **options}
        return json_of(self._service.send("POST", ESTIMATES, json=body))  # type: ignore[no-any-return]

    def submit(
        self, dataset: str, *, key: str | None = None, within: float | None = None, **options: Unpack[Options]
    ) -> Job:
        """Submit an export. If the answer is lost, the request is sent again with the same key, so it submits once.

        While an equal export of this user waits or runs, the result is that job, with `deduplicated`. With the `key`
        (Idempotency-Key) of an earlier call, the result is the job of that call; `within` limits the seconds."""
        headers, body = {"Idempotency-Key": key or str(uuid4())}, {"dataset": dataset, **options}
        return json_of(self._service.send("POST", JOBS, json=body, headers=headers, within=within))  # type: ignore[no-any-return]

    def job(self, job_id: str) -> Job:
        return json_of(self._service.send("GET", f"{JOBS}/{job_id}"))  # type: ignore[no-any-return]

    def cancel(self, job_id: str) -> Job:
        """Cancels at once a job that waits, and within a second one that runs. Raises Refused if it has ended."""
        return json_of(self._service.send("POST", f"{JOBS}/{job_id}/cancel"))  # type: ignore[no-any-return]

    def import_file(
        self,
        dataset: str,
        file: BinaryIO,
        *,
        name: str = "-",
        key: str | None = None,
        show: ShowBytes | None = None,
        **options: str | bool | None,
    ) -> Job:
        """Submit a file to import: `file` can be sought in, since it is sent again, with the same key, if the answer is
        lost. `options` are the parameters of `POST /api/v1/imports/jobs`, and `follow` takes the job."""
        body = Upload(file, show)
        headers = {
            "Idempotency-Key": key or str(uuid4()),
            "Content-Type": "application/octet-stream",
            "Content-Length": str(body.size),
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
        }
        values = {"dataset": dataset, **{name: value for name, value in options.items() if value is not None}}
        return json_of(self._service.send("POST", IMPORTS, params=values, content=body, headers=headers))  # type: ignore[no-any-return]

    def undo_import(self, job_id: str, reason: str, *, key: str | None = None) -> Job:
        headers = {"Idempotency-Key": key or str(uuid4())}
        return json_of(self._service.send("POST", f"{IMPORTS}/{job_id}/undo", json={"reason": reason}, headers=headers))  # type: ignore[no-any-return]

    def cancel_import(self, job_id: str, *, within: float | None = None) -> Job:
        return json_of(self._service.send("POST", f"{IMPORTS}/{job_id}/cancel", within=within))  # type: ignore[no-any-return]

    def follow(self, job: Job, *, show: Show | None = None) -> Job:
        """Wait until the job has ended; `show` is called with it after each change.

        Raises NotSucceeded unless there is a file."""
        headers: dict[str, str] = {}
        while True:
            if show is not None:
                show(job)
            if job["status"] in FINAL:
                break
            timeout = _WAIT_SECONDS + _ANSWER_SECONDS
            answer = self._service.send("GET", job["links"]["self"], headers=headers, timeout=timeout)
            if answer.status_code != 304:
                job = json_of(answer)
            # An instance with too many waiting clients answers at once, and so may a proxy; see Retry-After.
            waited = "wait" in answer.headers.get("Preference-Applied", "")
            if headers and not waited and job["status"] not in FINAL:
                time.sleep(min(retry_after(answer) or 1.0, 5))
            headers = {"Prefer": f"wait={_WAIT_SECONDS}", "If-None-Match": answer.headers.get("ETag", "")}
        if job["status"] != "succeeded":
            raise NotSucceeded(job)
        return job

    def export(self, dataset: str, to: Path | Writable, **options: Unpack[Options]) -> Job:
        """Submit, follow and download."""
        job = self.follow(self.submit(dataset, **options))
        self.download(job, to)
        return job

    def download(self, job: Job, to: Path | Writable, *, show: ShowBytes | None = None) -> None:
        """To a path, which appears only when its digest is right, or into an object that has `write`.

        A download that breaks continues at the byte where it broke; to a path also in another process, later. `show` is
        called with bytes done and bytes in all. Raises NotIntact, Refused, Unreachable; OSError of the disk."""
        if not isinstance(to, Path):
            digest = hashlib.sha256()
            for chunk, done in self._chunks(job, 0):
                digest.update(chunk)
                to.write(chunk)
                if show is not None:
                    show(done, job["result"]["bytes"])
            _require_digest(job, digest.digest(), "the reader has had it already")
            return
        part = to.with_name(f"{to.name}.{job['id']}.part")
        with part.open("ab") as file:
            if file.tell() > job["result"]["bytes"]:
                file.seek(file.truncate(0))
            for chunk, done in self._chunks(job, file.tell()):
                file.write(chunk)
                if show is not None:
                    show(done, job["result"]["bytes"])
            file.flush()
            os.fsync(file.fileno())
        # read back from the disk, so that the part of an earlier process is checked as well
        with part.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").digest()
        try:
            _require_digest(job, sha256, "nothing of it was kept")
        except NotIntact:
            part.unlink()
            raise
        part.replace(to)

    def _chunks(self, job: Job, done: int) -> Iterator[tuple[bytes, int]]:
        """The bytes of the file from offset `done` to its end, each chunk with the offset after it.

        Sends as many requests as that needs."""
        path, total = f"{JOBS}/{job['id']}/download", job["result"]["bytes"]
        last_progress = time.monotonic()
        while done < total:
            before, reason = done, "it ended early"
            # without If-Range, because the file of a job never changes, and the digest is checked at the end
            headers = {"Range": f"bytes={done}-"} if done else {}
            try:
                with self._service.stream(path, headers) as answer:
                    # A server that ignores the range sends the whole file, of which we have the beginning.
                    skip = done if answer.status_code == 200 else 0
                    for chunk in answer.iter_raw():
                        new, skip = chunk[skip:], max(skip - len(chunk), 0)
                        done += len(new)
                        if new:
                            yield new, done
            except httpx.TransportError as exc:
                reason = str(exc) or type(exc).__name__
            if done > before:
                last_progress = time.monotonic()
            elif time.monotonic() - last_progress > self._service.patience:
                raise Unreachable(f"The download broke at byte {done:,} of {total:,}: {reason}.")
            else:
                time.sleep(_PAUSE_SECONDS)


def _require_digest(job: Job, sha256: bytes, consequence: str) -> None:
    published = job["result"]["sha256"]
    if sha256.hex() != published:
        raise NotIntact(
            f"What was downloaded is not intact: its sha256 is {sha256.hex()},"
            f" the service's {published}; {consequence}."
        )
