"""Secrets of second factors at rest, and through a rotation of ERP_JWT_SECRET."""

import asyncpg
import httpx
import msgspec
import pytest

from erp_service import errors
from erp_service.app import create_app
from erp_service.auth.second_factor import codes
from erp_service.auth.second_factor.encryption import SecretBox
from erp_service.auth.second_factor.rotation import renew_all, renewing
from erp_service.db.engine import Database
from erp_service.services import build_services
from erp_service.settings import Settings
from tests.auth.devices import begin, log_in, with_device
from tests.auth.people import Join, slug
from tests.support.apps import running
from tests.support.clients import client_of
from tests.support.settings import SECRET
from tests.support.waiting import eventually

NEW = "another-secret-for-tests-only-9876543210-zyxwvut"


def with_secrets(settings: Settings, *secrets: str) -> Settings:
    return msgspec.structs.replace(settings, jwt_secret=",".join(secrets))


async def test_nothing_that_is_stored_or_logged_signs_anybody_in(
    client: httpx.AsyncClient, join: Join, owner: asyncpg.Connection
) -> None:
    grace = await join()
    device, pair = await with_device(client, grace)
    await log_in(client, grace.email, device.recovery_codes[0])
    pending = await begin(client, pair, code=device.recovery_codes[1])
    everything = ""
    for table in ("users", "second_factors", "recovery_codes", "audit_log", "rate_limits", "refresh_families"):
        everything += str([dict(row) for row in await owner.fetch(f"select * from {table}")])
    for secret in (device.secret, pending, *device.recovery_codes, *map(codes.plain, device.recovery_codes)):
        assert secret not in everything


async def test_a_rotation_of_the_secret_locks_nobody_out(
    client: httpx.AsyncClient, join: Join, settings: Settings, database: Database, owner: asyncpg.Connection
) -> None:
    grace = await join()
    device, pair = await with_device(client, grace)
    await begin(client, pair, code=device.recovery_codes[0])
    both = SecretBox(with_secrets(settings, NEW, SECRET))
    assert both.open(await owner.fetchval("select secret from second_factors")) == device.secret
    async with renewing(database, both, every=0.01):

        async def is_renewed() -> bool:
            secrets = await owner.fetchrow("select secret || '', pending_secret || '' from second_factors")
            return not any(map(both.is_outdated, secrets))

        await eventually(is_renewed)
    assert await renew_all(database, both) == 0
    app = create_app(build_services(with_secrets(settings, NEW)))
    async with running(app), client_of(app) as rotated:
        assert (await log_in(rotated, grace.email, device.code())).status_code == 200


async def test_a_secret_that_was_removed_too_early_is_said_and_can_be_put_back(
    client: httpx.AsyncClient, join: Join, settings: Settings, database: Database
) -> None:
    grace = await join()
    device, _ = await with_device(client, grace)
    assert await renew_all(database, SecretBox(with_secrets(settings, NEW, "x" * 40))) == 0
    app = create_app(build_services(with_secrets(settings, NEW)))
    async with running(app), client_of(app) as without:
        answer = await log_in(without, grace.email, device.code())
        assert (answer.status_code, slug(answer)) == (503, "unavailable")
        # a recovery code needs no secret
        assert (await log_in(without, grace.email, device.recovery_codes[0])).status_code == 200
    app = create_app(build_services(with_secrets(settings, NEW, SECRET)))
    async with running(app), client_of(app) as again:
        assert (await log_in(again, grace.email, device.code())).status_code == 200


def test_what_was_changed_is_not_decrypted(settings: Settings) -> None:
    box = SecretBox(settings)
    sealed = box.seal("GEZDGNBVGY3TQOJQ")
    assert sealed != box.seal("GEZDGNBVGY3TQOJQ"), "who compares rows learns nothing"
    for changed in (sealed[:-6] + "AAAA==", "", "no token", SecretBox(with_secrets(settings, NEW)).seal("x")):
        with pytest.raises(errors.Unavailable):
            box.open(changed)
