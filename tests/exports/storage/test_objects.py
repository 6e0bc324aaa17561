"""What only an object store does: errors, multipart uploads, signatures."""

import errno
import os
import traceback
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import msgspec
import obstore
import pytest
from uuid_utils.compat import uuid7

from erp_service.audit.schemas import SealHead
from erp_service.db.engine import Database
from erp_service.exports.storage.base import ADDRESS_SECONDS, FileHeaders, FileKey, Unreachable
from erp_service.exports.storage.objects import MARK, PART, ObjectStore, connected
from erp_service.operations.seal_head import head_target
from erp_service.settings import Settings
from tests.exports.storage.object_server import ACCESS_KEY, BUCKET, SECRET_KEY
from tests.exports.storage.stores import ObjectServer

NAMED = FileHeaders("text/csv; charset=utf-8", "attachment; filename=\"x.csv\"; filename*=UTF-8''x.csv")


@pytest.fixture
def store(object_server: ObjectServer, tmp_path: Path) -> ObjectStore:
    return object_server.store(f"{tmp_path.parent.name}/{tmp_path.name}")


@pytest.fixture
def key() -> FileKey:
    return FileKey(uuid7(), 1, "csv")


async def put(store: ObjectStore, key: FileKey, content: bytes) -> None:
    async with store.writing(key, NAMED) as sink:
        await sink(content)


REFUSED = [
    ({"secret_access_key": "another"}, "the secret key is not the one of the access key"),
    ({"access_key_id": "AKIAOTHER"}, "it does not know the access key"),
    ({"bucket": "nowhere"}, "the bucket does not exist"),
    ({"bucket": "denied"}, "it refuses these credentials"),
    ({"bucket": "broken"}, "it answers ServiceUnavailable"),
    ({"endpoint": "http://127.0.0.1:1"}, "it cannot be reached"),
]


@pytest.mark.parametrize(("wrong", "said"), REFUSED, ids=[said for _, said in REFUSED])
async def test_store_that_refuses_is_told_without_a_secret(
    object_server: ObjectServer, key: FileKey, wrong: dict[str, str], said: str
) -> None:
    store = object_server.store("x", **wrong)
    with pytest.raises(Unreachable, match=said) as told:
        await put(store, key, b"x")
    shown = "".join(traceback.format_exception(told.value))
    assert SECRET_KEY not in shown
    assert ACCESS_KEY not in shown


@pytest.mark.parametrize("bucket", ["full", "quota"])
@pytest.mark.parametrize("size", [1, 2 * PART])
async def test_full_store_is_told(object_server: ObjectServer, key: FileKey, bucket: str, size: int) -> None:
    with pytest.raises(OSError, match="full") as told:
        await put(object_server.store("x", bucket), key, bytes(size))
    assert told.value.errno == errno.ENOSPC
    assert object_server.uploads(bucket) == 0


async def test_parts_of_a_file_that_failed_are_not_left_behind(
    object_server: ObjectServer, store: ObjectStore, key: FileKey
) -> None:
    before = object_server.uploads()
    during = 0

    async def fail() -> None:
        nonlocal during
        async with store.writing(key) as sink:
            for _ in range(6):
                await sink(bytes(PART))
            during = object_server.uploads()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    assert during == before + 1
    assert object_server.uploads() == before


async def test_mark_that_outlived_its_upload_does_not_cost_the_file(
    store: ObjectStore, database: Database, key: FileKey
) -> None:
    """Maintenance removes incomplete files: the marker must not make a complete file look incomplete."""
    await put(store, key, b"x")
    stale = FileKey(uuid7(), 1, "csv")
    for marked in (key, stale):
        await store.create(f"{marked}{MARK}", b"")
    found = {kept.key: kept.whole async for kept in store.list_files()}
    assert found == {key: True, stale: False}


async def test_two_prefixes_of_a_bucket_are_two_stores(
    object_server: ObjectServer, tmp_path: Path, key: FileKey
) -> None:
    one, two = (object_server.store(f"{tmp_path.name}{suffix}") for suffix in ("", "-2"))
    await put(one, key, b"x")
    await one.claim("a/b")
    assert await two.size(key) is None
    assert await two.identity() is None
    assert [kept async for kept in two.list_files()] == []


@pytest.fixture
async def anybody() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient() as client:
        yield client


async def test_signed_address_gives_the_file_and_its_name_for_minutes_only(
    store: ObjectStore, key: FileKey, anybody: httpx.AsyncClient
) -> None:
    await put(store, key, b"0123456789")
    address = await store.address(key, "GET")
    assert address is not None
    answer = await anybody.get(address)
    assert (answer.status_code, answer.content) == (200, b"0123456789")
    assert answer.headers["Content-Type"] == NAMED.content_type
    assert answer.headers["Content-Disposition"] == NAMED.content_disposition
    part = await anybody.get(address, headers={"Range": "bytes=3-5"})
    assert (part.status_code, part.content) == (206, b"345")
    assert int(parse_qs(urlsplit(address).query)["X-Amz-Expires"][0]) == ADDRESS_SECONDS <= 300
    head = await store.address(key, "HEAD")
    assert (await anybody.head(str(head))).status_code == 200


async def test_signed_address_is_good_for_nothing_else(
    store: ObjectStore, key: FileKey, anybody: httpx.AsyncClient
) -> None:
    await put(store, key, b"x")
    other = FileKey(key.export_id, 2, key.extension)
    await put(store, other, b"another's")
    address = str(await store.address(key, "GET"))
    assert SECRET_KEY not in address
    for forged in (address.replace(str(key), str(other)), address.replace("Expires=300", "Expires=9000")):
        assert forged != address
        assert (await anybody.get(forged)).status_code == 403
    assert (await anybody.get(address.partition("?")[0])).status_code == 403
    assert (await anybody.put(address, content=b"mine")).status_code == 403


@pytest.mark.parametrize(
    "options", [{"nonsense": "1"}, {"timeout": SECRET_KEY}, {"http2_nonsense": "1"}, {"root_certificate": SECRET_KEY}]
)
def test_option_that_no_store_knows_is_told_without_its_value(options: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="not") as told:
        connected("s3://bucket/prefix", options)
    assert SECRET_KEY not in "".join(traceback.format_exception(told.value))


async def test_credentials_may_come_from_the_environment_of_the_providers_own_tools(
    object_server: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = object_server.options()
    allow_http = options.pop("allow_http")
    for name, value in options.items():
        monkeypatch.setenv("AWS_ENDPOINT_URL" if name == "endpoint" else f"AWS_{name.upper()}", value)
    store = connected("s3://exports/environment", {"allow_http": allow_http})
    assert await store.claim("a/b") == await store.identity() == "a/b"


async def test_host_without_credentials_is_told_so(
    object_server: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    options = {"endpoint": object_server.url, "allow_http": "true"}
    # what would be asked of the metadata service of a cloud's host
    store = connected("s3://exports/x", {**options, "metadata_endpoint": "http://127.0.0.1:1"})
    with pytest.raises(Unreachable):
        await store.identity()


async def test_a_head_of_the_trail_is_an_object_that_is_never_written_again(
    settings: Settings, object_server: ObjectServer, tmp_path: Path
) -> None:
    address = f"s3://{BUCKET}/{tmp_path.name}"
    options = ",".join(f"{name}={value}" for name, value in object_server.options().items())
    target = head_target(msgspec.structs.replace(settings, seal_head=address, seal_head_options=options))
    assert target is not None
    sealed_at = datetime(2026, 1, 31, 12, tzinfo=UTC)
    for time in (sealed_at, sealed_at + timedelta(days=1)):
        await target.write(SealHead(7, 64 * "a", time))
    assert await content_of(object_server, tmp_path.name, f"head-{7:018d}-{16 * 'a'}") == (
        f"7:{64 * 'a'} 2026-01-31T12:00:00Z\n"
    )


async def content_of(server: ObjectServer, prefix: str, name: str) -> str:
    answer = await obstore.get_async(server.store(prefix)._store, name)
    return bytes(await answer.bytes_async()).decode()
