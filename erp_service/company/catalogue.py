"""The settings of the company, one by one: for `erp settings`, and for forms that are drawn from the list."""

from collections.abc import Iterator

import msgspec
from msgspec import inspect

from erp_service.access.roles import Role
from erp_service.company.currencies import CURRENCIES
from erp_service.company.schemas import READ_ONLY, SettingKind, SettingOut, SettingsOut
from erp_service.company.service import FOR_SUPER_ADMIN
from erp_service.company.settings import CompanySettings
from erp_service.settings import Described

NAMES = tuple(name for name in SettingsOut.__struct_fields__ if name not in READ_ONLY)
"""What can be set."""

DEFAULTS = {**msgspec.structs.asdict(CompanySettings()), "timezone": "UTC"}
"""Of those that have one which is not null."""

_KINDS: dict[type[inspect.Type], SettingKind] = {
    inspect.IntType: SettingKind.INTEGER,
    inspect.DecimalType: SettingKind.DECIMAL,
    inspect.DateType: SettingKind.DATE,
    inspect.EnumType: SettingKind.CHOICE,
    inspect.StrType: SettingKind.TEXT,
}


def describe(present: SettingsOut | None) -> Iterator[Described]:
    """Every setting with meaning, default and present value; None if that is not known."""
    for setting in settings():
        yield Described(
            variable=setting.name,
            meaning=setting.meaning,
            default=setting.default,
            value=None if present is None else text_of(getattr(present, setting.name)),
        )


def settings() -> Iterator[SettingOut]:
    """Every setting, as its type says it."""
    for field in inspect.type_info(SettingsOut).fields:  # type: ignore[attr-defined]
        if field.name in NAMES:
            kinds = field.type.types if isinstance(field.type, inspect.UnionType) else (field.type,)
            described = next(kind for kind in kinds if isinstance(kind, inspect.Metadata))
            plain = described.type
            choices = sorted(CURRENCIES) if field.name == "currency" else None
            if isinstance(plain, inspect.EnumType):
                choices = [str(member.value) for member in plain.cls]
            yield SettingOut(
                name=field.name,
                meaning=(described.extra_json_schema or {}).get("description", ""),
                kind=SettingKind.CHOICE if choices else _KINDS[type(plain)],
                choices=choices,
                least=getattr(plain, "ge", None),
                most=getattr(plain, "le", None),
                nullable=any(isinstance(kind, inspect.NoneType) for kind in kinds),
                default=text_of(DEFAULTS.get(field.name)),
                role=Role.SUPER_ADMIN if field.name in FOR_SUPER_ADMIN else Role.ADMIN,
            )


def text_of(value: object) -> str | None:
    """A value as the command line takes it."""
    return None if value is None else str(msgspec.to_builtins(value))
