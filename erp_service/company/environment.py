"""Settings of the company that are given as variables of the environment. Nothing reads them there.

Some of them were variables before they moved to the database. An upgrade must not lose what was set: `erp migrate`
takes it over, once. An instance only warns, because during a roll the instances of the version before still need their
variables, and a process that refuses to start because of one would stop the roll half way."""

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec
from sqlalchemy import text

from erp_service.access.principals import Principal
from erp_service.audit.record import record
from erp_service.company.queries import lock_for_update
from erp_service.company.schemas import SettingsOut
from erp_service.company.service import write
from erp_service.company.settings import CompanySettings
from erp_service.db.sessions import WriteSession
from erp_service.db.statements import Prepared
from erp_service.observability.telemetry import log
from erp_service.settings import PREFIX

MOVED = (
    "currency",
    "export_retention_hours",
    "exports_running_per_user",
    "exports_waiting_per_user",
    "export_bytes_per_user",
    "export_submissions_per_hour",
    "export_estimates_per_minute",
    "export_downloads_per_minute",
    "signed_addresses_per_minute",
)
"""What were variables of the environment before the company's settings were kept in the database."""

ADVICE = (
    "It is set by PATCH /api/v1/settings or `erp settings set`. What an earlier version ran with, `erp migrate` takes"
    " over from its own environment; then remove the variable."
)


def ignored_variables(environ: Mapping[str, str] = os.environ) -> list[str]:
    """The variables that are set and name a setting of the company."""
    names = [*CompanySettings.__struct_fields__, "timezone", "closed_through"]
    variables = [f"{PREFIX}{name.upper()}{suffix}" for name in names for suffix in ("", "_FILE")]
    return [variable for variable in variables if environ.get(variable)]


def warn_of_ignored(environ: Mapping[str, str] = os.environ) -> None:
    """In the log of a process that starts."""
    if variables := ignored_variables(environ):
        log.warning("ignored: a setting of the company", variables=variables, advice=ADVICE)


async def take_over(db: WriteSession, who: Principal, environ: Mapping[str, str] = os.environ) -> list[str]:
    """Store what was set in the environment, but for settings that were ever changed in the database.

    Returns a sentence about each variable that is set. What the version before ran with is not judged by stricter rules
    now, such as on currencies: the books are in it."""
    before, said = await lock_for_update(db), []
    values: dict[str, object] = {}
    for variable in ignored_variables(environ):
        name = variable.removeprefix(PREFIX).removesuffix("_FILE").lower()
        if name in MOVED and not await db.scalar(_WAS_CHANGED, {"name": name}):
            try:
                value = _value(name, _raw(environ, variable))
            except (ValueError, OSError) as exc:
                said.append(f"{variable} cannot be used, and nothing was taken over from it: {exc}")
                continue
            if value != getattr(before, name):
                values[name] = value
                said.append(f"{name} = {value} was taken over from {variable} into the database.")
        said.append(f"{variable} is ignored from now on: remove it. `erp settings` shows what is set.")
    if values:
        await write(db, before, values)
        await _record(db, who, before, values)
    return said


def _raw(environ: Mapping[str, str], variable: str) -> str:
    value = environ[variable]
    return Path(value).read_text().strip() if variable.endswith("_FILE") else value


def _value(name: str, raw: str) -> object:
    """Raises msgspec.ValidationError, which is a ValueError."""
    return getattr(msgspec.convert({name: raw}, CompanySettings, strict=False), name)


_WAS_CHANGED = Prepared(
    text("""
    select exists (
      select from company where jsonb_exists(settings, cast(:name as text))
      union all
      select from audit_log
      where entity = 'company' and action = 'company.settings_changed' and jsonb_exists(after, cast(:name as text)))
""")
)


async def _record(db: WriteSession, who: Principal, before: SettingsOut, values: dict[str, object]) -> None:
    old = {name: getattr(before, name) for name in values}
    reason = "was set in the environment"
    await record(db, who, "company.settings_changed", 1, before=old, after=values, reason=reason)
