"""The head of the trail is written elsewhere, line by line or object by object, and `erp verify` proves against it."""

from pathlib import Path

import asyncpg
import msgspec
import pytest

from erp_service.audit.sealing.heads import head_proof
from erp_service.operations.seal_head import HeadFile, HeadObjects, head_target, written
from erp_service.operations.verify import verify
from erp_service.settings import Settings, SettingsError
from erp_service.worker_services import build_worker_services
from tests.support.settings import as_role
from tests.support.trail import seal_all

ENTRY = "insert into audit_log (action, entity, entity_id) values ('item.created', 'item', '1')"


async def test_each_new_head_is_one_line_that_the_trail_is_proved_by(
    settings: Settings, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    file = tmp_path / "heads"
    settings = msgspec.structs.replace(settings, seal_head=f"file://{file}")
    services = build_worker_services(as_role(settings, "erp_worker"))
    try:
        await services.head_copy.write(services.database)
        assert not file.exists(), "nothing is sealed yet"
        for _ in range(2):
            await owner.execute(ENTRY)
            await seal_all(settings)
            # as often as it likes: only a new head is a new line
            await services.head_copy.write(services.database)
            await services.head_copy.write(services.database)
        assert [line.partition(":")[0] for line in file.read_text().splitlines()] == ["1", "2"]
        proof = head_proof([str(file)])
        assert await verify(settings, [proof]) == []
        await owner.execute("alter table trail disable trigger user; delete from trail where position = 2")
        (finding,) = await verify(settings, [proof])
        assert finding.total == 1

        # a line that a full disk has cut short spoils no other
        file.write_text(file.read_text().rstrip("\n"))
        await services.head_copy.write(services.database)
        assert [line.partition(":")[0] for line in file.read_text().splitlines()] == ["1", "2", "1"]

        failures = written.labels("failed")._value.get()
        file.unlink()
        file.mkdir()
        await services.head_copy.write(services.database)
        assert written.labels("failed")._value.get() == failures + 1
    finally:
        await services.close()


@pytest.mark.parametrize(
    "address",
    ["heads", "file://host/heads", "file:///", "ftp://host/heads", "s3://", "s3://user@bucket", "https://a/b"],
)
def test_what_is_no_place_for_heads_stops_the_start(settings: Settings, address: str) -> None:
    with pytest.raises(SettingsError, match="ERP_SEAL_HEAD must"):
        head_target(msgspec.structs.replace(settings, seal_head=address))


def test_a_file_and_a_bucket_are_places_for_heads(settings: Settings) -> None:
    assert head_target(settings) is None
    assert isinstance(head_target(msgspec.structs.replace(settings, seal_head="file:///srv/heads")), HeadFile)
    bucket = {"seal_head": "s3://bucket/prefix", "seal_head_options": "region=eu-central-1"}
    assert isinstance(head_target(msgspec.structs.replace(settings, **bucket)), HeadObjects)
