"""The settings of the company as `erp settings` lists them."""

from collections.abc import Iterator

import msgspec
from msgspec import inspect

from erp_service.company.schemas import READ_ONLY, SettingsOut
from erp_service.company.settings import CompanySettings
from erp_service.settings import Described

NAMES = tuple(name for name in SettingsOut.__struct_fields__ if name not in READ_ONLY)
"""What can be set."""

DEFAULTS = {**msgspec.structs.asdict(CompanySettings()), "timezone": "UTC"}
"""Of those that have one which is not null."""


def describe(present: SettingsOut | None) -> Iterator[Described]:
    """Every setting with meaning, default and present value; None if that is not known."""
    for field in inspect.type_info(SettingsOut).fields:  # type: ignore[attr-defined]
        if field.name in NAMES:
            yield Described(
                variable=field.name,
                meaning=_meaning(field.type),
                default=text_of(DEFAULTS.get(field.name)),
                value=None if present is None else text_of(getattr(present, field.name)),
            )


def _meaning(kind: inspect.Type) -> str:
    kinds = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
    said = [(one.extra_json_schema or {}).get("description") for one in kinds if isinstance(one, inspect.Metadata)]
    return next(filter(None, said), "")


def text_of(value: object) -> str | None:
    """A value as the command line takes it."""
    return None if value is None else str(msgspec.to_builtins(value))
