"""Bodies are decoded straight into their structs, strictly; every fault is named, with a JSON pointer.

msgspec stops at the first fault, and a person wants them all. It also reads `1_000`, `NaN` and Arabic digits as
numbers, so types of numbers are our own (decimals.py)."""

import enum
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator
from functools import cache
from itertools import islice
from typing import Any, NamedTuple, TypeGuard

import msgspec

from erp_service import errors
from erp_service.decimals import JsonNumber, Number
from erp_service.errors import Fault
from erp_service.texts import Text

MOST_FAULTS = 100  # to name every fault of a hostile body would block the event loop
MOST_PARTS = 5000  # so would looking at every part of it; no list or object of ours may have as many
MOST_OBJECTS = 10_000  # in one body: 5,000 lines of a count, or 2,000 movements, which have 4,000 at most
MOST_MEMBERS = 60_000  # the same for members and items: 30 in each of 2,000 lines
INLINE = 64 * 1024
"""Bytes of a body that are decoded within a few milliseconds, whatever they are. More are decoded in a thread."""

MISSING = "is missing"
"""The fault of a field that must be there."""

_ECHOED = 200  # characters of what was sent, in one fault


def decode(kind: Any, body: bytes) -> Any:
    """The body as a `kind`; raises errors.Malformed, or errors.Invalid that names every fault.

    The time is linear in the length of the body, and about 10 ms for 2,000 lines, with faults 40 ms."""
    # counted before any object is made of it: texts may hold these too, so the limits are far above what is needed
    if len(body) > INLINE and (body.count(b"{") > MOST_OBJECTS or _members(body) > MOST_MEMBERS):
        raise errors.Invalid(None, Fault(f"has more than {MOST_MEMBERS} members or {MOST_OBJECTS} objects", pointer=""))
    try:
        value = _decoder(kind).decode(body)
    except msgspec.ValidationError as exc:
        _check_syntax(body)
        raise errors.Invalid(None, *_first(_named(kind, body.lstrip(), "", _JSON, str(exc)))) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        _check_syntax(body)
        raise errors.Malformed("The body is not JSON in UTF-8.") from None
    if _has_nul(body):
        raise errors.Invalid(None, *_first(nuls(msgspec.json.decode(body))))
    return value


def _members(body: bytes) -> int:
    return max(body.count(b","), body.count(b":"))


def _has_nul(body: bytes) -> bool:
    # "u0000" after an escaped backslash is no NUL
    return b"\\u0000" in body and b"\\u0000" in body.replace(b"\\\\", b"")


@cache
def _decoder(kind: Any) -> "msgspec.json.Decoder[Any]":
    return msgspec.json.Decoder(kind, dec_hook=read_hook, float_hook=JsonNumber)


def _first(named: Iterator[Fault]) -> list[Fault]:
    return list(islice(named, MOST_FAULTS))


class OwnType:
    """The base of further types of bodies, which are made of a decoded JSON value."""

    @classmethod
    def read(cls, value: object) -> object:
        """Raises ValueError that says what is wrong with the value, or errors.Invalid that names each fault in it."""
        raise NotImplementedError


def read_hook(kind: type, value: object) -> object:
    """msgspec's `dec_hook`: the project's own types in bodies."""
    if issubclass(kind, (Number, Text, OwnType)):
        return kind.read(value)
    raise NotImplementedError(kind)


def _check_syntax(body: bytes) -> None:
    """Raises errors.Malformed unless it is JSON. Makes no objects of it."""
    try:
        body.decode()
        _RAW.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise errors.Malformed("The body is not JSON in UTF-8.") from None
    except RecursionError:
        raise errors.Malformed("The body is nested too deep.") from None


_RAW = msgspec.json.Decoder(msgspec.Raw)


class _Form(NamedTuple):
    """How values are held while their faults are searched. `check` raises msgspec.ValidationError unless a value is of
    the kind; `opened` is a value whose parts, if it has any, are values of the same form."""

    check: Callable[[Any, Any], object]
    opened: Callable[[Any], Any]


def _opened_json(raw: bytes | msgspec.Raw) -> Any:
    # one level only: whatever is not looked at costs nothing
    match bytes(memoryview(raw)[:1]):
        case b"{":
            return _RAW_OBJECT.decode(raw)
        case b"[":
            return _RAW_ARRAY.decode(raw)
        case b'"':
            return _TEXT.decode(raw)
    # a number of any length, which msgspec may refuse to read, or a literal: neither has parts
    return None


_RAW_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_RAW_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])
_TEXT = msgspec.json.Decoder(str)
_JSON = _Form(check=lambda kind, raw: _decoder(kind).decode(raw), opened=_opened_json)
_PYTHON = _Form(check=lambda kind, value: msgspec.convert(value, kind, dec_hook=read_hook), opened=lambda value: value)


def faults(kind: Any, value: Any) -> Iterator[Fault]:
    """Every fault of `value`, of Python's own types, as a `kind`, with JSON pointers."""
    return _faults(kind, value, "", _PYTHON)


def _faults(kind: Any, value: Any, at: str, form: _Form) -> Iterator[Fault]:
    try:
        form.check(kind, value)
    except msgspec.ValidationError as exc:
        yield from _named(kind, value, at, form, str(exc))


def _named(kind: Any, value: Any, at: str, form: _Form, message: str) -> Iterator[Fault]:
    """The faults of a value that `check` has refused with this message: of its parts, or else of the whole."""
    named = False
    # a length is compared after all parts were found to be right
    if not _OF_LENGTH.fullmatch(message):
        for fault in _parts(kind, value, at, form):
            named = True
            yield fault
    if not named:
        message = without_path(message).replace("JsonNumber", "float").replace("`str`", "`string`")
        yield Fault(_instead_of_pattern(kind, message) or in_known_words(kind, message), pointer=at)


_OF_LENGTH = re.compile(r"Expected `(array|object)` of length [<>]= [0-9]+")


def _instead_of_pattern(kind: Any, message: str) -> str | None:
    """The words in which the type says what its regular expression means: `extra={"fault": ...}`."""
    if not message.startswith("Expected `string` matching regex"):
        return None
    extras = [meta.extra or {} for meta in getattr(kind, "__metadata__", ()) if isinstance(meta, msgspec.Meta)]
    return next((extra["fault"] for extra in extras if "fault" in extra), None)


def in_known_words(kind: Any, message: str) -> str:
    """The message; msgspec's about a value that is none of an enumeration is replaced by one that names all of them."""
    if not message.startswith("Invalid enum value"):
        return message
    # JSON shows where a comma among commas begins and ends, and that a character is a tab
    known = [
        str(word) if str(word).strip("-").isidentifier() else msgspec.json.encode(word).decode()
        for word in _words(kind)
    ]
    return f"is not one of {', '.join(known)}" if known else message


def _words(kind: Any) -> Iterator[Any]:
    """The values of the enumerations in a type, in their order."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        yield from (argument for argument in arguments if argument is not None)
    elif origin is typing.Annotated:
        yield from _words(arguments[0])
    elif origin in (typing.Union, types.UnionType):
        for argument in arguments:
            yield from _words(argument)
    elif inspect.isclass(kind) and issubclass(kind, enum.Enum):
        yield from (member.value for member in kind)


def _parts(kind: Any, value: Any, at: str, form: _Form) -> Iterator[Fault]:
    """The faults of the fields, items or members of `value`, if it is of the container that `kind` asks for."""
    while typing.get_origin(kind) is typing.Annotated:
        kind = typing.get_args(kind)[0]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        member = _choose([argument for argument in arguments if argument is not types.NoneType], value, form)
        return iter(()) if member is None else _faults(member, value, at, form)
    struct = origin or kind
    if origin not in (list, dict) and not _is_struct(struct):
        return iter(())
    opened = form.opened(value)
    if origin is list:
        return _items(arguments[0], opened, at, form) if isinstance(opened, list) else iter(())
    if not isinstance(opened, dict):
        return iter(())
    if origin is dict:
        return _entries(arguments[0], arguments[1], opened, at, form)
    return _fields(kind, struct, opened, at, form)


def _is_struct(kind: Any) -> TypeGuard[type[msgspec.Struct]]:
    return inspect.isclass(kind) and issubclass(kind, msgspec.Struct)


def _items(kind: Any, value: list[Any], at: str, form: _Form) -> Iterator[Fault]:
    for index, item in enumerate(islice(value, MOST_PARTS)):
        yield from _faults(kind, item, f"{at}/{index}", form)


def _entries(key_kind: Any, kind: Any, value: dict[str, Any], at: str, form: _Form) -> Iterator[Fault]:
    for key, item in islice(value.items(), MOST_PARTS):
        yield from _faults(key_kind, key, f"{at}/{escape(key)}", _PYTHON)
        yield from _faults(kind, item, f"{at}/{escape(key)}", form)


def _fields(kind: Any, struct: Any, value: dict[str, Any], at: str, form: _Form) -> Iterator[Fault]:
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    for name, field in fields.items():
        if name in value:
            yield from _faults(field.type, value[name], f"{at}/{escape(name)}", form)
        elif field.required:
            yield Fault(MISSING, pointer=f"{at}/{escape(name)}")
    config = struct.__struct_config__
    if config.forbid_unknown_fields:
        for name in value:
            if name not in fields and name != config.tag_field:
                yield Fault("is not a field here", pointer=f"{at}/{escape(name)}")


def _choose(kinds: list[Any], value: Any, form: _Form) -> Any:
    if len(kinds) == 1:
        return kinds[0]
    configs = [(kind, getattr(kind, "__struct_config__", None)) for kind in kinds]
    tagged = [(kind, config) for kind, config in configs if config is not None and config.tag_field]
    opened = form.opened(value) if tagged else None
    if not isinstance(opened, dict):
        return None
    for kind, config in tagged:
        if config.tag_field in opened and form.opened(opened[config.tag_field]) == config.tag:
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
    """One reference token of a JSON pointer (RFC 6901), of a long key only the beginning."""
    return key[:_ECHOED].replace("~", "~0").replace("/", "~1").replace("\0", "\\u0000")


def without_path(message: str) -> str:
    """msgspec's message without the path that it adds, since a pointer says the same, and without most of a long value
    that it repeats."""
    message = message.partition(" - at `")[0]
    return message if len(message) <= _ECHOED else f"{message[:_ECHOED]}..."
