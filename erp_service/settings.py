"""Everything a deployment can set, read once from the environment and passed in; never a global."""

import os
import re
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET, Meta, UnsetType

from erp_service.db.servers import addresses

PREFIX = "ERP_"
SECRET = {"secret": True}
MIN_SECRET_BYTES = 32
LONGEST_ACCESS_TOKEN_SECONDS = 86_400


class SettingsError(Exception):
    """A setting is missing or has a value that cannot be used; the message names each one."""


def _about(meaning: str, *, secret: bool = False, **limits: Any) -> Meta:
    return Meta(description=meaning, extra=SECRET if secret else None, **limits)


Seconds = float
Environment = Literal["development", "production"]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One field for each variable `ERP_<NAME>`; `ERP_<NAME>_FILE` names a file that holds the value instead."""

    database_url: Annotated[
        str,
        _about(
            "postgresql://user:password@host:port/db, or ?host=/socket/dir; of several hosts (a,b) the one that leads",
            secret=True,
        ),
    ]
    queue_database_url: Annotated[
        str | None, _about("a direct address for workers and LISTEN when ERP_DATABASE_URL is a pooler", secret=True)
    ] = None
    replica_url: Annotated[
        str | None, _about("streaming replicas for reports and exports, of which one is read at a time", secret=True)
    ] = None
    read_without_primary_seconds: Annotated[
        Seconds, _about("how long reports are read after a primary was reached last; 0: with one alone", ge=0, le=3600)
    ] = 60
    migration_database_url: Annotated[str | None, _about("the owner's address for `erp migrate`", secret=True)] = None
    environment: Annotated[
        Environment,
        _about(
            "production: the API does not start without a strong ERP_JWT_SECRET; development: it takes a weak one, and"
            " makes one that lasts until it stops if there is none"
        ),
    ] = "production"
    jwt_secret: Annotated[
        str | None,
        _about(
            "signs tokens, encrypts second factors: at least 32 bytes; several, newest first, separated by commas",
            secret=True,
        ),
    ] = None
    export_store: Annotated[
        str,
        _about(
            "where export files live: file:///directory that all instances see, postgres: for the database itself, or"
            " s3://bucket/prefix, gs://bucket/prefix, az://account/container/prefix, which belong to one database each",
            secret=True,
        ),
    ] = "file:///var/lib/erp/exports"
    export_store_options: Annotated[
        str | None,
        _about(
            "of an object store: name=value, separated by commas or lines, such as endpoint, region, access_key_id,"
            " secret_access_key, allow_http; what is missing comes from AWS_..., GOOGLE_... or AZURE_... or the host",
            secret=True,
        ),
    ] = None
    export_store_redirect: Annotated[
        bool, _about("send downloads on to an address that the object store signed, for at most five minutes")
    ] = False
    export_store_accel: Annotated[
        str | None,
        _about(
            "the path under which nginx in front sends files of a store file: by itself, such as /-/exports, when it is"
            " one of ERP_TRUSTED_PROXIES and asks for that; none: instances send them",
        ),
    ] = None
    import_bytes: Annotated[
        int, _about("the largest file to import over HTTP, in bytes, as it is sent and as it is unpacked", ge=1024)
    ] = 1024**3
    webhook_networks: Annotated[str, _about("inner networks that webhooks may lead to, by http too, by commas")] = ""
    event_streams: Annotated[
        int, _about("streams that follow exports, or waits for events, on one instance", ge=1, le=100_000)
    ] = 1000
    event_streams_per_user: Annotated[
        int, _about("how many of them one user may have; beyond either limit, clients poll", ge=1, le=100_000)
    ] = 50
    export_parts: Annotated[
        int, _about("database connections that copy one large export at once; each keeps a core busy", ge=1, le=16)
    ] = 2
    seal_head: Annotated[
        str | None,
        _about(
            "where the head of the trail is written once a minute, out of reach of whoever owns the database:"
            " file:///path/of/a/file, to which lines are added, or s3://bucket/prefix and the like, one object each",
            secret=True,
        ),
    ] = None
    seal_head_options: Annotated[
        str | None, _about("of an object store there, as ERP_EXPORT_STORE_OPTIONS", secret=True)
    ] = None
    heartbeat_seconds: Annotated[Seconds, _about("how often a worker says that it lives", gt=0, le=300)] = 5
    stalled_seconds: Annotated[Seconds, _about("a worker silent for longer has its jobs taken over", gt=0, le=3600)] = (
        15
    )
    worker_concurrency: Annotated[
        int, _about("exports at once in one worker; large ones leave a slot to small ones", ge=1, le=100)
    ] = 4
    drain_seconds: Annotated[
        Seconds, _about("how long to keep serving after SIGTERM, while not ready", ge=0, le=600)
    ] = 5
    grace_seconds: Annotated[Seconds, _about("how long to wait for work in hand when stopping", ge=0, le=3600)] = 20
    access_token_seconds: Annotated[
        int, _about("how long an access token is valid", ge=30, le=LONGEST_ACCESS_TOKEN_SECONDS)
    ] = 900
    refresh_token_seconds: Annotated[int, _about("how long an unused refresh token is valid", ge=60)] = 14 * 86_400
    login_failures_per_account: Annotated[
        int, _about("failed log-ins to one account from one network before each has to wait longer", ge=1, le=1000)
    ] = 10
    login_failures_per_address: Annotated[
        int, _about("failed log-ins from one network in five minutes, to accounts that never signed in there", ge=1)
    ] = 60
    sign_ins_per_account: Annotated[
        int, _about("sign-ins of one account in a minute, and refreshes of one sign-in", ge=1)
    ] = 20
    host: Annotated[str, _about("the address that `erp serve` listens on, and `erp worker` for ERP_METRICS_PORT")] = (
        "127.0.0.1"
    )
    port: Annotated[int, _about("the port that `erp serve` listens on", ge=0, le=65_535)] = 8000
    metrics_port: Annotated[int, _about("the port at which `erp worker` serves /metrics; 0: none", ge=0, le=65_535)] = 0
    pool_size: Annotated[int, _about("database connections of one instance", ge=1, le=500)] = 10
    pool_timeout_seconds: Annotated[Seconds, _about("how long a request waits for a connection", gt=0, le=60)] = 5
    statement_seconds: Annotated[Seconds, _about("the longest a request's statement may run", gt=0, le=3600)] = 30
    body_limit: Annotated[
        int, _about("the largest request body where lines are posted, in bytes; elsewhere 64 KiB at most", ge=1024)
    ] = 1024 * 1024
    public_url: Annotated[
        str | None, _about("how addresses in answers begin, such as https://erp.example.com; none: with the path")
    ] = None
    trusted_proxies: Annotated[str, _about("whose forwarded headers count: addresses or networks, by commas")] = ""
    cors_origins: Annotated[str, _about("whose pages may call, separated by commas")] = ""
    otel_endpoint: Annotated[str, _about("an OpenTelemetry collector for traces over HTTP, http://host:4318")] = ""
    log_format: Annotated[Literal["auto", "json", "text"], _about("auto: text on a terminal, JSON elsewhere")] = "auto"
    log_level: Annotated[Literal["debug", "info", "warning", "error"], _about("the least level that is logged")] = (
        "info"
    )

    @property
    def jwt_secrets(self) -> list[str]:
        return [secret.strip() for secret in (self.jwt_secret or "").split(",") if secret.strip()]

    @property
    def pooled(self) -> bool:
        """ERP_DATABASE_URL leads through a pooler, where each transaction may meet another session."""
        return self.queue_database_url is not None

    @property
    def listen_url(self) -> str:
        """Where LISTEN and the queue connect: never through a transaction pooler."""
        return self.queue_database_url or self.database_url


class Described(msgspec.Struct, frozen=True):
    """One setting as `erp settings` shows it."""

    variable: str
    meaning: str
    default: str | None
    value: str | None


def load(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings; raises SettingsError that names every fault."""
    values: dict[str, object] = {}
    faults = []
    hints = get_type_hints(Settings, include_extras=True)
    for field in msgspec.structs.fields(Settings):
        variable = PREFIX + field.name.upper()
        try:
            raw = _raw(environ, variable)
            if isinstance(raw, str):
                values[field.name] = msgspec.convert(raw, hints[field.name], strict=False)
            elif field.required:
                faults.append(f"{variable} is not set: {_meta(hints[field.name]).description}")
        except OSError as exc:
            faults.append(f"{variable}_FILE cannot be read: {exc.strerror}")
        except msgspec.ValidationError as exc:
            faults.append(f"{variable} cannot be used: {exc}")
    if faults:
        raise SettingsError("\n".join(faults))
    settings = Settings(**values)  # type: ignore[arg-type]
    _check(settings)
    return settings


def _raw(environ: Mapping[str, str], variable: str) -> str | UnsetType:
    if path := environ.get(f"{variable}_FILE"):
        return Path(path).read_text().strip()
    # Compose files pass unset variables on as empty ones
    return environ.get(variable) or UNSET


def _check(settings: Settings) -> None:
    for field in ("database_url", "queue_database_url", "migration_database_url", "replica_url"):
        try:
            addresses.parse(getattr(settings, field) or "postgresql://", leader=field != "replica_url")
        except ValueError as exc:
            raise SettingsError(f"{PREFIX}{field.upper()} cannot be used: {exc}") from None
    if settings.stalled_seconds < 2 * settings.heartbeat_seconds:
        raise SettingsError(
            "ERP_STALLED_SECONDS must be at least twice ERP_HEARTBEAT_SECONDS, else a healthy worker looks stalled."
        )

    if settings.public_url is not None and not _is_root(settings.public_url):
        raise SettingsError(
            "ERP_PUBLIC_URL must be http:// or https:// with a host, and perhaps a path; no user, query or fragment."
        )
    if (path := settings.export_store_accel) is not None:
        if not settings.export_store.startswith("file:"):
            raise SettingsError("ERP_EXPORT_STORE_ACCEL needs files in a directory: ERP_EXPORT_STORE=file:///...")
        if re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", path, re.ASCII) is None:
            raise SettingsError("ERP_EXPORT_STORE_ACCEL must be a plain path, such as /-/exports.")


def _is_root(url: str) -> bool:
    try:
        parts = urlsplit(url)
        has_host = parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        return False
    is_plain = not (parts.query or parts.fragment or "@" in parts.netloc or re.search(r"[^!-~]|[?#\"'<>\\]", url))
    return bool(has_host and is_plain and parts.scheme in ("http", "https"))


def secret_fault(settings: Settings) -> str | None:
    """Why tokens cannot be signed safely, in one sentence, or None."""
    how = 'Make one with: python3 -c "import secrets; print(secrets.token_urlsafe(48))"'
    if not settings.jwt_secrets:
        return f"ERP_JWT_SECRET is not set, and tokens cannot be signed without it. {how}"
    if any(len(s.encode()) < MIN_SECRET_BYTES or len(set(s)) < 8 for s in settings.jwt_secrets):
        return f"ERP_JWT_SECRET is weak: each secret needs {MIN_SECRET_BYTES} random bytes. {how}"
    return None


def with_secret(settings: Settings) -> Settings:
    """The settings with a secret to sign tokens with: in development one for this process alone, if there is none.

    Raises SettingsError in production unless each secret is present and strong."""
    fault = secret_fault(settings)
    if fault is not None and settings.environment == "production":
        raise SettingsError(fault)
    if settings.jwt_secrets:
        return settings
    return msgspec.structs.replace(settings, jwt_secret=secrets.token_urlsafe(48))


def describe(settings: Settings | None) -> Iterator[Described]:
    """Every setting with meaning, default and present value; secrets masked, passwords cut out of addresses."""
    hints = get_type_hints(Settings, include_extras=True)
    for field in msgspec.structs.fields(Settings):
        meta = _meta(hints[field.name])
        secret = bool((meta.extra or {}).get("secret"))
        present = getattr(settings, field.name) if settings else None
        yield Described(
            variable=PREFIX + field.name.upper(),
            meaning=meta.description or "",
            default=None if field.required or field.default is None else str(field.default),
            value=None if present is None else _masked(str(present)) if secret else str(present),
        )


def _masked(value: str) -> str:
    # in an address only the password is secret; another text that holds a secret may hold more than one
    if re.match(r"[a-z][a-z0-9+.-]*:(//|$)", value) is None:
        return "********"
    # not by urlsplit's parts: an address of Postgres may have several hosts, each with a port
    value = re.sub(r"^([^:]*://[^:/?#]*):[^/?#]*@", r"\1:********@", value)
    return re.sub(r"([?&]password=)[^&#]*", r"\1********", value)


def _meta(kind: object) -> Meta:
    if get_origin(kind) is Annotated:
        return next(part for part in get_args(kind) if isinstance(part, Meta))
    raise TypeError(kind)
