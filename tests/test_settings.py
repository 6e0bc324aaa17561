"""Settings: read once, with every fault named and secrets never shown."""

import re
from pathlib import Path

import msgspec
import pytest

from erp_service import settings
from erp_service.settings import Settings, SettingsError

PACKAGE = Path(settings.__file__).parent
URL = {"ERP_DATABASE_URL": "postgresql://erp:hunter2@db:5432/erp"}


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(SettingsError) as refused:
        settings.load({"ERP_PORT": "http", "ERP_WORKER_CONCURRENCY": "0", "ERP_ENVIRONMENT": "prod"})
    said = str(refused.value)
    for variable in ("ERP_DATABASE_URL", "ERP_PORT", "ERP_WORKER_CONCURRENCY", "ERP_ENVIRONMENT"):
        assert variable in said


def test_an_empty_variable_counts_as_unset() -> None:
    assert settings.load({**URL, "ERP_PORT": "", "ERP_QUEUE_DATABASE_URL": ""}).port == 8000


def test_a_secret_can_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x" * 40 + "\n")
    loaded = settings.load({**URL, "ERP_JWT_SECRET_FILE": str(tmp_path / "secret")})
    assert loaded.jwt_secrets == ["x" * 40]


def test_a_missing_file_of_a_secret_is_named() -> None:
    with pytest.raises(SettingsError, match="ERP_JWT_SECRET_FILE cannot be read"):
        settings.load({**URL, "ERP_JWT_SECRET_FILE": "/nowhere/secret"})


def test_secrets_and_passwords_are_masked() -> None:
    loaded = settings.load({**URL, "ERP_JWT_SECRET": "s3cret" * 8})
    shown = "\n".join(str(line) for line in settings.describe(loaded))
    assert "hunter2" not in shown
    assert "s3cret" not in shown
    assert "db:5432" in shown


def test_every_setting_says_what_it_means() -> None:
    assert all(line.meaning for line in settings.describe(None))


@pytest.mark.parametrize("secret", [None, "", "short", "a" * 64, "goodgoodgoodgoodgoodgoodgoodgood,short"])
def test_a_missing_or_weak_secret_stops_the_start(secret: str | None) -> None:
    with pytest.raises(SettingsError, match="ERP_JWT_SECRET") as refused:
        settings.with_secret(Settings(database_url="postgresql://", jwt_secret=secret))
    assert secret is None or not secret or secret not in str(refused.value)


def test_environment_decides_whether_a_missing_or_weak_secret_stops_the_start() -> None:
    """It was a setting that nothing read."""
    development = Settings(database_url="postgresql://", environment="development")
    made = [settings.with_secret(development) for _ in range(2)]
    assert [settings.secret_fault(each) for each in made] == [None, None]
    assert made[0].jwt_secret != made[1].jwt_secret, "of each process its own"
    weak = msgspec.structs.replace(development, jwt_secret="short")
    assert settings.with_secret(weak) == weak
    with pytest.raises(SettingsError):
        settings.with_secret(msgspec.structs.replace(weak, environment="production"))


def test_everything_that_can_be_set_is_read_somewhere() -> None:
    code = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    assert [
        name for name in Settings.__struct_fields__ if not re.search(rf"\b(settings|loaded|self)\.{name}\b", code)
    ] == []


def test_a_stall_shorter_than_two_heartbeats_is_refused() -> None:
    with pytest.raises(SettingsError, match="ERP_STALLED_SECONDS"):
        settings.load({**URL, "ERP_HEARTBEAT_SECONDS": "5", "ERP_STALLED_SECONDS": "6"})


@pytest.mark.parametrize("url", ["http://localhost:8000", "https://erp.example.com", "https://example.com/erp/"])
def test_public_url_is_taken_as_it_is(url: str) -> None:
    assert settings.load({**URL, "ERP_PUBLIC_URL": url}).public_url == url


@pytest.mark.parametrize(
    "url",
    [
        "erp.example.com",
        "ftp://example.com",
        "https://",
        "https://user:password@example.com",
        "https://example.com?x=1",
        "https://example.com/#top",
        "https://example.com:http",
        "https://exa mple.com",
        "https://example.com\r\nX: y",
        "javascript:alert(1)",
    ],
)
def test_public_url_that_would_make_no_address_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="ERP_PUBLIC_URL"):
        settings.load({**URL, "ERP_PUBLIC_URL": url})
