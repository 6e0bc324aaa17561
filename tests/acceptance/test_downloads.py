"""Downloads over plain sockets: the instances themselves resume correctly, wherever the connection breaks."""

import asyncio
import base64
import hashlib
import random
import socket
import struct
from urllib.parse import urlsplit

import pytest

from erp_service.client import Job
from tests.acceptance.service import Service

CUTS = 100


class Answer:
    """The head of a response, and as much of its body as was read."""

    def __init__(self, head: bytes, body: bytes) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(first.split()[1])
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        self.body = body


def ask(url: str, token: str, job: Job, headers: dict[str, str], *, most: int) -> Answer:
    """GET over a socket that is reset, not closed, after `most` bytes of the body."""
    where = urlsplit(url)
    with socket.create_connection((where.hostname, where.port), timeout=20) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sent = {"Host": where.netloc, "Authorization": f"Bearer {token}", **headers}
        lines = [f"GET /api/v1/exports/jobs/{job['id']}/download HTTP/1.1", *(f"{n}: {v}" for n, v in sent.items())]
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        came = b""
        while b"\r\n\r\n" not in came:
            came += connection.recv(65536)
        head, _, body = came.partition(b"\r\n\r\n")
        while len(body) < most:
            if not (more := connection.recv(65536)):
                break
            body += more
    return Answer(head, body[:most])


@pytest.mark.parametrize("seed", [1, 2])
async def test_download_cut_at_a_hundred_places_and_resumed_on_alternating_instances_is_the_same_file(
    seed: int, service: Service, job: Job
) -> None:
    size, digest = job["result"]["bytes"], job["result"]["sha256"]
    assert size > 2_000_000
    chance = random.Random(seed)
    cuts = [*sorted(chance.sample(range(1, size), CUTS)), size]

    def downloaded() -> bytes:
        found, tag = b"", ""
        for number, cut in enumerate(cuts):
            # as a client resumes that has only the ETag of the first response
            headers = {"Range": f"bytes={len(found)}-", "If-Range": tag} if found else {}
            url = service.urls[number % 2]
            answer = ask(url, service.token, job, headers, most=cut - len(found))
            assert answer.status == (206 if found else 200)
            assert answer.headers["etag"] == f'"{digest}"'
            assert answer.headers["repr-digest"] == f"sha-256=:{base64.b64encode(bytes.fromhex(digest)).decode()}:"
            assert int(answer.headers["content-length"]) == size - len(found)
            if found:
                assert answer.headers["content-range"] == f"bytes {len(found)}-{size - 1}/{size}"
            tag = answer.headers["etag"]
            found += answer.body
            assert len(found) == cut
        return found

    found = await asyncio.to_thread(downloaded)
    assert hashlib.sha256(found).hexdigest() == digest


async def test_resumption_of_another_file_starts_anew_instead_of_mixing_two(service: Service, job: Job) -> None:
    stale = {"Range": "bytes=1000-", "If-Range": '"' + "0" * 64 + '"'}
    answer = await asyncio.to_thread(ask, service.urls[1], service.token, job, stale, most=job["result"]["bytes"])
    assert answer.status == 200
    assert hashlib.sha256(answer.body).hexdigest() == job["result"]["sha256"]


async def test_instances_stay_well_though_readers_vanish(service: Service, job: Job) -> None:
    """Forty downloads, and twenty connections in both pools together: none may hold one while its client is idle."""

    def vanish() -> None:
        for number in range(40):
            ask(service.urls[number % 2], service.token, job, {}, most=number % 3)

    await asyncio.to_thread(vanish)
    answer = await asyncio.to_thread(ask, service.urls[0], service.token, job, {}, most=job["result"]["bytes"])
    assert hashlib.sha256(answer.body).hexdigest() == job["result"]["sha256"]
