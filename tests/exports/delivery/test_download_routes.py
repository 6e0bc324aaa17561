"""Downloads: whole, in ranges, resumed, not modified, expired, lost."""

import asyncio
import base64
import hashlib
from collections.abc import Awaitable
from email.message import Message
from urllib.parse import unquote

import asyncpg
import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from erp_service import errors
from erp_service.access.roles import Role
from erp_service.exports.delivery import http_range
from erp_service.exports.delivery.http_range import Part, requested_part
from erp_service.exports.storage.base import FileKey, Store
from tests.exports.data import many_items
from tests.exports.jobs import JOBS, done, row_of, submitted
from tests.support.clients import SignIn, UserClient
from tests.support.waiting import eventually
from tests.support.workers import Work

ETAG = '"abc"'


@given(first=st.integers(0, 300), last=st.integers(0, 300), size=st.integers(1, 200))
def test_range_gives_the_bytes_it_names(first: int, last: int, size: int) -> None:
    content = bytes(n % 251 for n in range(size))
    header = f"bytes={first}-{last}"
    if last < first:
        assert requested_part(header, None, ETAG, size) is None
    elif first >= size:
        with pytest.raises(errors.RangeNotSatisfiable) as refused:
            requested_part(header, None, ETAG, size)
        assert refused.value.headers["Content-Range"] == f"bytes */{size}"
    else:
        part = requested_part(header, None, ETAG, size)
        assert part is not None
        assert content[part.start : part.stop] == content[first : last + 1]
        assert part.content_range == f"bytes {first}-{min(last, size - 1)}/{size}"


@given(count=st.integers(1, 300), size=st.integers(1, 200))
def test_range_of_the_end_and_to_the_end(count: int, size: int) -> None:
    assert requested_part(f"bytes=-{count}", None, ETAG, size) == Part(max(size - count, 0), size, size)
    if count < size:
        assert requested_part(f"bytes={count}-", None, ETAG, size) == Part(count, size, size)


@given(st.text(max_size=40))
@example("bytes=0-1,3-4")
@example("lines=0-1")
@example("bytes=٣-٤")
@example("bytes=-")
def test_range_that_is_none_is_ignored(header: str) -> None:
    try:
        part = requested_part(header, None, ETAG, 10)
    except errors.RangeNotSatisfiable:
        return
    assert part is None or 0 <= part.start < part.stop <= 10


def test_range_of_nothing_cannot_be_satisfied() -> None:
    with pytest.raises(errors.RangeNotSatisfiable):
        requested_part("bytes=-0", None, ETAG, 10)


@pytest.mark.parametrize(
    ("if_range", "partial"),
    [(None, True), (ETAG, True), ('"other"', False), ('W/"abc"', False), ("Wed, 21 Oct 2026 07:28:00 GMT", False)],
)
def test_if_range_sends_all_of_another_file(if_range: str | None, partial: bool) -> None:
    assert (requested_part("bytes=0-1", if_range, ETAG, 10) is not None) is partial


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30))
def test_disposition_carries_any_name_and_no_other_header(name: str) -> None:
    header = http_range.disposition(name)
    assert header.isascii()
    assert not set(header) & set("\r\n\0")
    parsed = Message()
    parsed["Content-Disposition"] = header
    assert unquote(header.partition("filename*=UTF-8''")[2]) == name
    assert parsed.get_content_disposition() == "attachment"


@pytest.fixture
async def job(viewer: httpx.AsyncClient, owner: asyncpg.Connection, work: Work) -> dict[str, object]:
    await many_items(owner, 3_000)
    async with work():
        return await done(viewer)


def address(job: dict[str, object]) -> str:
    return f"{JOBS}/{job['id']}/download"


async def test_headers_say_what_the_file_is(viewer: httpx.AsyncClient, job: dict[str, object]) -> None:
    answer = await viewer.get(address(job))
    digest = hashlib.sha256(answer.content)
    assert answer.status_code == 200
    assert answer.headers["ETag"] == f'"{digest.hexdigest()}"'
    assert answer.headers["Repr-Digest"] == f"sha-256=:{base64.b64encode(digest.digest()).decode()}:"
    assert answer.headers["Content-Length"] == str(len(answer.content))
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8; header=present"
    assert answer.headers["Cache-Control"] == "private, no-transform"
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["Content-Disposition"].startswith('attachment; filename="items-2')
    assert "Content-Encoding" not in answer.headers
    assert "transfer-encoding" not in answer.headers


async def test_head_says_the_same_and_sends_nothing(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, job: dict[str, object]
) -> None:
    whole, head = await viewer.get(address(job)), await viewer.head(address(job), headers={"Range": "bytes=0-1"})
    assert (head.status_code, head.content) == (200, b"")
    # the two are two requests
    same = {"x-request-id", "ratelimit"}
    assert {n: v for n, v in head.headers.items() if n not in same} == {
        n: v for n, v in whole.headers.items() if n not in same
    }
    assert await owner.fetchval("select count(*) from audit_log where action = 'export.downloaded'") == 1


async def test_broken_download_is_resumed_at_any_byte(viewer: httpx.AsyncClient, job: dict[str, object]) -> None:
    whole = await viewer.get(address(job))
    for cut in (1, 1000, 262_144, len(whole.content) - 1):
        headers = {"Range": f"bytes={cut}-", "If-Range": whole.headers["ETag"]}
        rest = await viewer.get(address(job), headers=headers)
        assert rest.status_code == 206
        assert rest.headers["Content-Range"] == f"bytes {cut}-{len(whole.content) - 1}/{len(whole.content)}"
        assert rest.headers["Repr-Digest"] == whole.headers["Repr-Digest"]
        assert int(rest.headers["Content-Length"]) == len(rest.content)
        assert whole.content[:cut] + rest.content == whole.content


async def test_if_match_of_another_file_is_412_and_sends_nothing(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, job: dict[str, object]
) -> None:
    tag = (await viewer.head(address(job))).headers["ETag"]
    for method in ("GET", "HEAD"):
        for other in ('"other"', f"W/{tag}", '"a", "b"'):
            answer = await viewer.request(method, address(job), headers={"If-Match": other, "Range": "bytes=0-1"})
            assert (answer.status_code, answer.headers["ETag"]) == (412, tag)
        for same in (tag, f'"other", {tag}', "*"):
            answer = await viewer.request(method, address(job), headers={"If-Match": same})
            assert answer.status_code == 200
    assert (await viewer.get(address(job), headers={"If-Match": "*", "If-None-Match": tag})).status_code == 304
    assert await owner.fetchval("select count(*) from audit_log where action = 'export.downloaded'") >= 1


async def test_known_file_is_not_sent_again(viewer: httpx.AsyncClient, job: dict[str, object]) -> None:
    etag = (await viewer.head(address(job))).headers["ETag"]
    answer = await viewer.get(address(job), headers={"If-None-Match": f'"x", {etag}'})
    assert (answer.status_code, answer.content, answer.headers["ETag"]) == (304, b"", etag)


async def test_range_past_the_end_is_416(viewer: httpx.AsyncClient, job: dict[str, object]) -> None:
    answer = await viewer.get(address(job), headers={"Range": "bytes=99999999-"})
    result = job["result"]
    assert isinstance(result, dict)
    assert answer.status_code == 416
    assert answer.headers["Content-Range"] == f"bytes */{result['bytes']}"


async def test_download_in_a_thousand_ranges_is_one_entry_a_minute_and_not_one_for_each_range(
    viewer: UserClient, admin: UserClient, owner: asyncpg.Connection, job: dict[str, object]
) -> None:
    def ranges(client: UserClient, *numbers: int) -> list[Awaitable[httpx.Response]]:
        return [client.get(address(job), headers={"Range": f"bytes={n}-{n}"}) for n in numbers]

    for answer in await asyncio.gather(*ranges(viewer, *range(30)), *ranges(admin, *range(10))):
        assert answer.status_code == 206
    entries = await owner.fetch(
        "select user_id, entity_id, date_trunc('minute', at) as minute from audit_log"
        " where action = 'export.downloaded'"
    )
    # the clock may have gone on to the next minute
    assert len({*map(tuple, entries)}) == len(entries) <= 4
    assert {row["user_id"] for row in entries} == {viewer.user_id, admin.user_id}
    assert {row["entity_id"] for row in entries} == {job["id"]}


async def test_file_of_somebody_else_is_404_unless_for_an_admin(
    job: dict[str, object], staff: httpx.AsyncClient, admin: httpx.AsyncClient
) -> None:
    assert (await staff.get(address(job))).status_code == 404
    assert (await admin.get(address(job))).status_code == 200


async def test_file_is_gone_with_the_role(sign_in: SignIn, owner: asyncpg.Connection, work: Work) -> None:
    """After a new sign-in with a lower role the owner gets no file of a dataset that needs the higher one."""
    admin = await sign_in(Role.ADMIN)
    async with work():
        job = await done(admin, "users")
    assert (await admin.get(address(job))).status_code == 200
    await owner.execute("update users set role = 'STAFF' where id = $1", admin.user_id)

    async def refused() -> bool:
        return (await admin.get(address(job))).status_code == 403

    assert await eventually(refused)


async def test_export_that_waits_is_409_with_retry_after(viewer: httpx.AsyncClient) -> None:
    answer = await viewer.get(f"{JOBS}/{await submitted(viewer)}/download")
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/export-not-ready")
    assert "Retry-After" in answer.headers


async def test_expired_file_is_410_at_once(
    viewer: httpx.AsyncClient, owner: asyncpg.Connection, job: dict[str, object]
) -> None:
    """Also before maintenance has deleted the file."""
    await owner.execute("update export_jobs set expires_at = now() - interval '1 second'")
    answer = await viewer.get(address(job))
    assert (answer.status_code, answer.json()["type"]) == (410, "/problems/export-expired")


@pytest.mark.parametrize("fault", ["gone", "cut short"])
async def test_file_that_is_lost_or_cut_short_is_told_and_never_sent(
    fault: str, viewer: httpx.AsyncClient, owner: asyncpg.Connection, job: dict[str, object], store: Store
) -> None:
    key = FileKey.read((await row_of(owner, str(job["id"])))["file_key"])
    assert key is not None
    await store.delete(key)
    if fault == "cut short":
        async with store.writing(key) as sink:
            await sink(b"id,sku\n")
    answer = await viewer.get(address(job))
    assert (answer.status_code, answer.json()["type"]) == (410, "/problems/export-lost")
