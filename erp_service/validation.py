"""Bodies are decoded straight into their structs, strictly; every fault is named, with a JSON pointer.

msgspec stops at the first fault, and a person wants them all. It also reads `1_000`, `NaN` and Arabic digits as
numbers, so types of numbers are our own (decimals.py)."""

import inspect
import types
import typing
from collections.abc import Iterator
from functools import cache
from itertools import islice
from typing import Any, TypeGuard

import msgspec

from erp_service import errors
from erp_service.decimals import JsonNumber, Number
from erp_service.errors import Fault
from erp_service.texts import Text

MOST_FAULTS = 100  # to name every fault of a hostile body would block the event loop
MOST_PARTS = 2000  # so would looking at every part of it; no list or object of ours may have as many


def decode(kind: Any, body: bytes) -> Any:
    """The body as a `kind`; raises errors.Malformed, or errors.Invalid that names every fault."""
    try:
        value = _decoder(kind).decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise errors.Invalid(None, *_first(faults(kind, parse(body)))) from None
    # "u0000" after an escaped backslash is no NUL, which only the parsed body shows
    if b"\\u0000" in body and (with_nul := _first(nuls(parse(body)))):
        raise errors.Invalid(None, *with_nul)
    return value


@cache
def _decoder(kind: Any) -> "msgspec.json.Decoder[Any]":
    return msgspec.json.Decoder(kind, dec_hook=read_hook, float_hook=JsonNumber)


def _first(named: Iterator[Fault]) -> list[Fault]:
    return list(islice(named, MOST_FAULTS))


def read_hook(kind: type, value: object) -> object:
    """msgspec's `dec_hook`: the project's own types in bodies."""
    if issubclass(kind, (Number, Text)):
        return kind.read(value)
    raise NotImplementedError(kind)


def parse(body: bytes) -> Any:
    """Untyped JSON, its numbers still text; raises errors.Malformed."""
    try:
        return _RAW.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise errors.Malformed("The body is not JSON in UTF-8.") from None
    except RecursionError:
        raise errors.Malformed("The body is nested too deep.") from None


_RAW = msgspec.json.Decoder(float_hook=JsonNumber)


def faults(kind: Any, value: Any, at: str = "") -> Iterator[Fault]:
    """Every fault of `value` as a `kind`, with JSON pointers."""
    try:
        msgspec.convert(value, kind, dec_hook=read_hook)
    except msgspec.ValidationError as exc:
        named = False
        for fault in _parts(kind, value, at):
            named = True
            yield fault
        if not named:
            message = without_path(str(exc)).replace("JsonNumber", "float").replace("`str`", "`string`")
            yield Fault(_instead_of_pattern(kind, message) or message, pointer=at)


def _instead_of_pattern(kind: Any, message: str) -> str | None:
    """The words in which the type says what its regular expression means: `extra={"fault": ...}`."""
    if not message.startswith("Expected `string` matching regex"):
        return None
    extras = [meta.extra or {} for meta in getattr(kind, "__metadata__", ()) if isinstance(meta, msgspec.Meta)]
    return next((extra["fault"] for extra in extras if "fault" in extra), None)


def _parts(kind: Any, value: Any, at: str) -> Iterator[Fault]:
    """The faults of the fields, items or members of `value`, if it is of the container that `kind` asks for."""
    while typing.get_origin(kind) is typing.Annotated:
        kind = typing.get_args(kind)[0]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        member = _choose([argument for argument in arguments if argument is not types.NoneType], value)
        return iter(()) if member is None else faults(member, value, at)
    if origin is list and isinstance(value, list):
        return _items(arguments[0], value, at)
    if not isinstance(value, dict):
        return iter(())
    if origin is dict:
        return _entries(arguments[0], arguments[1], value, at)
    struct = origin or kind
    return _fields(kind, struct, value, at) if _is_struct(struct) else iter(())


def _is_struct(kind: Any) -> TypeGuard[type[msgspec.Struct]]:
    return inspect.isclass(kind) and issubclass(kind, msgspec.Struct)


def _items(kind: Any, value: list[Any], at: str) -> Iterator[Fault]:
    for index, item in enumerate(islice(value, MOST_PARTS)):
        yield from faults(kind, item, f"{at}/{index}")


def _entries(key_kind: Any, kind: Any, value: dict[str, Any], at: str) -> Iterator[Fault]:
    for key, item in islice(value.items(), MOST_PARTS):
        yield from faults(key_kind, key, f"{at}/{escape(key)}")
        yield from faults(kind, item, f"{at}/{escape(key)}")


def _fields(kind: Any, struct: type[msgspec.Struct], value: dict[str, Any], at: str) -> Iterator[Fault]:
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    for name, field in fields.items():
        if name in value:
            yield from faults(field.type, value[name], f"{at}/{escape(name)}")
        elif field.required:
            yield Fault("is missing", pointer=f"{at}/{escape(name)}")
    config = struct.__struct_config__
    if config.forbid_unknown_fields:
        for name in value.keys() - fields.keys() - {config.tag_field}:
            yield Fault("is not a field here", pointer=f"{at}/{escape(name)}")


def _choose(kinds: list[Any], value: Any) -> Any:
    if len(kinds) == 1:
        return kinds[0]
    for kind in kinds:
        config = getattr(kind, "__struct_config__", None)
        if isinstance(value, dict) and config and config.tag_field and value.get(config.tag_field) == config.tag:
            return kind
    return None


def nuls(value: Any, at: str = "") -> Iterator[Fault]:
    """Every NUL in a text: JSON may hold it, and Postgres cannot store it."""
    if isinstance(value, str) and "\0" in value:
        yield Fault("must not contain NUL", pointer=at)
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from nuls(key, f"{at}/{escape(key)}")
            yield from nuls(part, f"{at}/{escape(key)}")
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from nuls(part, f"{at}/{index}")


def escape(key: str) -> str:
    """One reference token of a JSON pointer (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1").replace("\0", "\\u0000")


def without_path(message: str) -> str:
    """msgspec's message without the path that it adds, since a pointer says the same."""
    return message.partition(" - at `")[0]
