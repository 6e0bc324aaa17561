"""One store of each kind, for tests that hold for all of them."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import msgspec

from erp_service.db.engine import Database
from erp_service.exports.storage import files, objects, postgres
from erp_service.exports.storage.base import Store
from erp_service.exports.storage.postgres import PostgresStore
from erp_service.exports.storage.registry import open_store
from erp_service.settings import Settings
from tests.exports.storage.object_server import ACCESS_KEY, BUCKET, REGION, SECRET_KEY

ROOT = Path(__file__).parents[3]

KINDS = ["files", "objects", "postgres"]
EDGES = {"files": [files.PIECE], "objects": [objects.PIECE, objects.PART], "postgres": [postgres.CHUNK]}
"""The sizes in bytes at which each kind goes from one piece to the next."""


class ObjectServer(NamedTuple):
    url: str

    def options(self, **more: str) -> dict[str, str]:
        return {
            "endpoint": self.url,
            "region": REGION,
            "access_key_id": ACCESS_KEY,
            "secret_access_key": SECRET_KEY,
            "allow_http": "true",
            **more,
        }

    def uploads(self, bucket: str = BUCKET) -> int:
        """Multipart uploads in progress, under all prefixes."""
        answer = httpx.get(f"{self.url}/{bucket}?uploads", headers={"X-From-The-Test": "yes"})
        return answer.text.count("<Upload>")

    def store(self, prefix: str, bucket: str = BUCKET, **more: str) -> objects.ObjectStore:
        return objects.connected(f"s3://{bucket}/{prefix}", self.options(**more))


@contextlib.contextmanager
def serving() -> Iterator[ObjectServer]:
    command = [sys.executable, "-m", "tests.exports.storage.object_server"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield ObjectServer(f"http://127.0.0.1:{int(process.stdout.readline())}")
        finally:
            process.kill()


def paged(settings: Settings, server: ObjectServer, *, listed: int) -> Store:
    """The store of these settings, which lists so many files at once if it lists in pages."""
    if settings.export_store == "postgres:":
        return PostgresStore(Database(settings, name="erp export store"), listed=listed)
    if settings.export_store.startswith("s3:"):
        return objects.connected(settings.export_store, server.options(), listed=listed)
    return open_store(settings)


def having(settings: Settings, kind: str, server: ObjectServer, place: Path) -> Settings:
    """The settings with an empty store of that kind. Settings with the same `place` have the same store."""
    address = {
        "files": f"file://{place}/made/later",
        "postgres": "postgres:",
        "objects": f"s3://{BUCKET}/{place.parent.name}/{place.name}",
    }
    options = ",".join(f"{name}={value}" for name, value in server.options().items())
    return msgspec.structs.replace(
        settings, export_store=address[kind], export_store_options=options if kind == "objects" else None
    )
