"""A client of a running service, for scripts and for `erp export`: submit, follow, download, resume, check.

Everything in one call: the file appears under its name when it is whole and its digest is right, and not before.

>>> with Client.sign_in(url, email, password) as erp:
...     job = erp.export("items", Path("items.csv"), columns=["sku", "name"], filter={"status": "ACTIVE"})
...     print(job["result"]["rows"], "rows")
2 rows

Or step by step, with a look at what it would cost, at how far it is, and the file into a pipe or anything else that
has `write`:

>>> with Client(url, token) as erp:
...     if erp.estimate("items", format="csv")["rows"] < 1_000_000:
...         job = erp.submit("items", format="csv", csv={"delimiter": ";"}, filename="items-{date}")
...         job = erp.follow(job, show=lambda job: print(job["progress"]["percent"], file=log))
...         erp.download(job, sys.stdout.buffer)

What the service refuses comes with every fault it named:

>>> with Client(url, token) as erp:
...     try:
...         erp.submit("items", columns=["colour"], sort="weight")
...     except Refused as refused:
...         print(refused.status, [fault["pointer"] for fault in refused.errors])
422 ['/columns/0', '/sort']

A script that was stopped goes on where it was: `erp.export` submits nothing twice while the first job waits or runs,
and a download to a path finds what is there of it already, by the job's id.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self, TypedDict, Unpack
from uuid import uuid4

import httpx

from erp_service.client_http import ClientError as ClientError
from erp_service.client_http import Connection, json_of, seconds_of
from erp_service.client_http import Refused as Refused
from erp_service.client_http import SignedOut as SignedOut
from erp_service.client_http import Unreachable as Unreachable

Job = dict[str, Any]
"""As the service answers it: see `GET /api/v1/exports/jobs/{id}` in the documentation of the API."""
Show = Callable[[Job], object]
ShowBytes = Callable[[int, int], object]

JOBS = "/api/v1/exports/jobs"
FINAL = frozenset({"succeeded", "failed", "canceled", "expired"})

_WAIT_SECONDS = 20
_PAUSE_SECONDS = 0.3


class Options(TypedDict, total=False):
    """What may be said of an export; the service has the defaults, and names what it does not take."""

    format: str
    compression: Literal["none", "gzip", "zstd"]
    columns: Sequence[str]
    filter: Mapping[str, str | int | bool]
    sort: str
    csv: Mapping[str, object]
    filename: str
    retention_hours: int
    force_new: bool


class Writable(Protocol):
    def write(self, data: bytes, /) -> object: ...


class NotSucceeded(ClientError):
    """The export ended without a file: it failed, was canceled or has expired. `job` says more."""

    def __init__(self, job: Job) -> None:
        self.job = job
        error = job.get("error") or {}
        why = error.get("detail") or error.get("title")
        super().__init__(f"The export is {job['status']}{f': {why}' if why else ''}.")


class NotIntact(ClientError):
    """What came is not what the service published: its digest differs. A file was removed; a pipe's reader is told."""


class Client:
    """Talks to one service. Requests that failed on the way are tried again, safely: submissions carry a key.

    With a refresh token, an access token that expires during a long export is renewed. `patience` is for how many
    seconds a service that answered before is tried again. For one thread at a time."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        refresh_token: str | None = None,
        timeout: float = 30.0,
        patience: float = 120.0,
    ) -> None:
        self._service = Connection(url, token, refresh_token, timeout=timeout, patience=patience)

    @classmethod
    def sign_in(cls, url: str, email: str, password: str, **options: Any) -> Self:
        """A client that stays signed in. Takes the options of the class; raises Refused, Unreachable."""
        client = cls(url, "", **options)
        try:
            client._service.sign_in(email, password)
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
        """What can be exported: names, columns with types, filters, sorts, formats."""
        return json_of(self._service.send("GET", "/api/v1/exports/datasets"))["items"]  # type: ignore[no-any-return]

    def estimate(self, dataset: str, **options: Unpack[Options]) -> dict[str, Any]:
        """What the export would be in rows, bytes and seconds; submits nothing. Raises Refused as `submit` does."""
        params = {"validate_only": "true"}
        body = {"dataset": dataset, **options}
        return json_of(self._service.send("POST", JOBS, json=body, params=params))  # type: ignore[no-any-return]

    def submit(self, dataset: str, **options: Unpack[Options]) -> Job:
        """Submit an export; a lost answer is asked for again with the same key, so it is submitted once.

        The same request while the first waits or runs gives that job, with `deduplicated`."""
        headers = {"Idempotency-Key": str(uuid4())}
        return json_of(self._service.send("POST", JOBS, json={"dataset": dataset, **options}, headers=headers))  # type: ignore[no-any-return]

    def job(self, job_id: str) -> Job:
        return json_of(self._service.send("GET", f"{JOBS}/{job_id}"))  # type: ignore[no-any-return]

    def cancel(self, job_id: str) -> Job:
        """At once while it waits, within a second while it runs. Raises Refused if it has ended."""
        return json_of(self._service.send("POST", f"{JOBS}/{job_id}/cancel"))  # type: ignore[no-any-return]

    def follow(self, job: Job, *, show: Show | None = None) -> Job:
        """Wait until the job has ended; `show` is called with it whenever the service has news of it.

        Raises NotSucceeded unless there is a file."""
        headers: dict[str, str] = {}
        while True:
            if show is not None:
                show(job)
            if job["status"] in FINAL:
                break
            answer = self._service.send("GET", f"{JOBS}/{job['id']}", headers=headers)
            if answer.status_code != 304:
                job = json_of(answer)
            # an instance on which too many wait, or a proxy, may not wait for us: then it says how long we should
            waited = "wait" in answer.headers.get("Preference-Applied", "")
            if headers and not waited and job["status"] not in FINAL:
                time.sleep(min(seconds_of(answer) or 1.0, 5))
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
        """To a path, which appears only when its digest is right, or into anything that has `write`.

        A download that breaks goes on at the byte where it broke; to a path also in another process, later. `show` is
        called with bytes done and bytes in all. Raises NotIntact, Refused, Unreachable; OSError of the disk."""
        if not isinstance(to, Path):
            digest = hashlib.sha256()
            for piece, done in self._pieces(job, 0):
                digest.update(piece)
                to.write(piece)
                if show is not None:
                    show(done, job["result"]["bytes"])
            _demand(job, digest.digest(), "the reader has had it already")
            return
        part = to.with_name(f"{to.name}.{job['id']}.part")
        with part.open("ab") as file:
            if file.tell() > job["result"]["bytes"]:
                file.seek(file.truncate(0))
            for piece, done in self._pieces(job, file.tell()):
                file.write(piece)
                if show is not None:
                    show(done, job["result"]["bytes"])
            file.flush()
            os.fsync(file.fileno())
        # read back from the disk: what an earlier process left there is checked too
        with part.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").digest()
        try:
            _demand(job, found, "nothing of it was kept")
        except NotIntact:
            part.unlink()
            raise
        part.replace(to)

    def _pieces(self, job: Job, done: int) -> Iterator[tuple[bytes, int]]:
        """The file's bytes from `done` on, to its end, over as many answers as it takes, and how many that makes."""
        path, total = f"{JOBS}/{job['id']}/download", job["result"]["bytes"]
        heard_at = time.monotonic()
        while done < total:
            before, broke = done, "it ended early"
            # a job's file never changes, and its digest is checked at the end: that stands for If-Range
            headers = {"Range": f"bytes={done}-"} if done else {}
            try:
                with self._service.opened(path, headers) as answer:
                    # whoever ignores a range sends all, of which we have the beginning
                    unwanted = done if answer.status_code == 200 else 0
                    for piece in answer.iter_raw():
                        new, unwanted = piece[unwanted:], max(unwanted - len(piece), 0)
                        done += len(new)
                        if new:
                            yield new, done
            except httpx.TransportError as exc:
                broke = str(exc) or type(exc).__name__
            if done > before:
                heard_at = time.monotonic()
            elif time.monotonic() - heard_at > self._service.patience:
                raise Unreachable(f"The download broke at byte {done:,} of {total:,}: {broke}.")
            else:
                time.sleep(_PAUSE_SECONDS)


def _demand(job: Job, found: bytes, kept: str) -> None:
    expected = job["result"]["sha256"]
    if found.hex() != expected:
        raise NotIntact(
            f"What was downloaded is not intact: its sha256 is {found.hex()}, the service's {expected}; {kept}."
        )
