"""Bodies of PUT and PATCH, which are read in two steps: as JSON when the request comes, and beside the resource under
its lock.

Both take a body as GET has shown it: a read-only field is ignored if it is unchanged, and refused if it is not. PATCH
is a JSON Merge Patch (RFC 7396): it is applied to what GET shows, and the result is decoded as the body of PUT is. So
there is one set of rules. No number on the way becomes a binary float: it stays the text that was sent."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar, get_args

import msgspec
from msgspec import UNSET, Struct
from msgspec.structs import FieldInfo

from erp_service import errors, validation
from erp_service.decimals import JsonNumber
from erp_service.errors import Fault

Body = TypeVar("Body", bound=Struct)
Shown = TypeVar("Shown", bound=Struct)


def merged(target: Any, patch: Any) -> Any:
    """The target with the patch applied: RFC 7396, section 2. Neither is changed."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


class Edit(validation.OwnType, Generic[Body, Shown]):
    """What a client wants a resource to be. `Body` is the struct that a client writes, `Shown` the one that GET answers
    with."""

    body: ClassVar[type[Struct]]
    _writable: ClassVar[frozenset[str]]
    removable: ClassVar[frozenset[str]]
    """The fields that have a default, so that a merge patch may remove them."""
    moving: ClassVar[frozenset[str]] = frozenset()
    """Read-only fields that the service changes by itself, without a new `ETag`. What a body says of them is ignored:
    nobody can know that it is still so."""
    _read_only: ClassVar[Mapping[str, FieldInfo]]
    """What GET shows and a client cannot write."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        kinds = get_args(getattr(cls, "__orig_bases__", ((),))[0])
        if not all(isinstance(kind, type) for kind in kinds):
            return
        cls.body, shown = kinds
        fields = msgspec.structs.fields(cls.body)
        cls._writable = frozenset(field.encode_name for field in fields)
        cls.removable = frozenset(
            field.encode_name for field in fields if not field.required and field.default is not UNSET
        )
        cls._read_only = {
            field.encode_name: field
            for field in msgspec.structs.fields(shown)
            if field.encode_name not in cls._writable
        }

    @abstractmethod
    def over(self, present: Shown) -> Body:
        """What the locked resource is to be. Raises errors.Invalid, which names every fault."""

    @abstractmethod
    def text(self, name: str) -> str | None:
        """The text that the body gives the field; None if it gives none. It is not checked yet."""

    def _changed(self, given: Mapping[str, Any], present: Shown | None) -> list[Fault]:
        """A fault for each read-only field that is not as the resource has it."""
        return [
            Fault("is read-only", pointer=f"/{validation.escape(name)}")
            for name, field in self._read_only.items()
            if name in given
            and name not in self.moving
            and (present is None or not _is_same(field.type, given[name], getattr(present, field.name)))
        ]


class Replacement(Edit[Body, Shown]):
    """The body of a PUT. Its faults are named when the request comes, but for read-only fields that were changed."""

    def __init__(self, value: Body, members: Mapping[str, Any]) -> None:
        self._value, self._members = value, members

    @classmethod
    def read(cls, value: object) -> "Replacement[Body, Shown]":
        """Raises errors.Invalid."""
        if not isinstance(value, dict) or value.keys().isdisjoint(cls._read_only):
            return cls(_decoded(cls.body, value), {})
        own = {name: part for name, part in value.items() if name not in cls._read_only}
        return cls(_decoded(cls.body, own), value)

    def over(self, present: Shown) -> Body:
        if faults := self._changed(self._members, present):
            raise errors.Invalid(None, *faults)
        return self._value

    def text(self, name: str) -> str | None:
        value = getattr(self._value, name)
        return value if isinstance(value, str) else None


class MergePatch(Edit[Body, Shown]):
    """The body of a PATCH: a field that is left out stays as it is, null gives it its default, objects are merged by
    key, lists are replaced."""

    either: ClassVar[frozenset[str]] = frozenset()
    """Fields that name the same thing: who changes one of them leaves out the others."""

    def __init__(self, members: Mapping[str, Any]) -> None:
        self._members = members

    @classmethod
    def read(cls, value: object) -> "MergePatch[Body, Shown]":
        """Raises ValueError unless it is an object."""
        if not isinstance(value, dict):
            raise ValueError("must be an object")
        return cls(value)

    def check(self) -> None:
        """Raises errors.Invalid for what is wrong whatever the resource is: so a bad patch is refused before a stale
        one, as a bad body of PUT is."""
        try:
            _decoded(self.body, self._applied_to({}))
        except errors.Invalid as refusal:
            if faults := [fault for fault in refusal.faults if not _may_be_there(fault)]:
                raise errors.Invalid(refusal.detail, *faults) from None

    def over(self, present: Shown | None) -> Body:
        """`present` is None for a resource that does not exist yet: then what is left out has its default."""
        faults = self._changed(self._members, present)
        try:
            body: Body = _decoded(self.body, self._applied_to(self._target(present)))
        except errors.Invalid as refusal:
            raise errors.Invalid(refusal.detail, *refusal.faults, *faults) from None
        if faults:
            raise errors.Invalid(None, *faults)
        return body

    def _applied_to(self, target: Mapping[str, Any]) -> dict[str, Any]:
        """Without what is read-only. A null for a field that must be there, or that is none, stays: decoding names
        it."""
        patch = {name: value for name, value in self._members.items() if name not in self._read_only}
        kept = {name: None for name, value in patch.items() if value is None and name not in self.removable}
        try:
            result: dict[str, Any] = merged(target, patch)
        except RecursionError:
            raise _too_deep() from None
        return result | kept

    def _target(self, present: Shown | None) -> dict[str, Any]:
        """What a client could have written to have the present state."""
        if present is None:
            return {}
        names = self._writable
        if not self.either.isdisjoint(self._members):
            names -= self.either
        return {name: value for name, value in msgspec.to_builtins(present).items() if name in names}

    def text(self, name: str) -> str | None:
        value = self._members.get(name)
        return value if isinstance(value, str) else None


def _decoded(kind: type[Struct], value: object) -> Any:
    """The value as if it had been sent as it is. Raises errors.Invalid, errors.Malformed."""
    try:
        body = msgspec.json.encode(value, enc_hook=_as_sent)
    except RecursionError:
        raise _too_deep() from None
    return validation.decode(kind, body)


def _may_be_there(fault: Fault) -> bool:
    """Whether the resource may have what is missing in the patch. It cannot in a list, which is replaced."""
    return fault.detail == validation.MISSING and not any(part.isdigit() for part in (fault.pointer or "").split("/"))


def _too_deep() -> errors.Malformed:
    return errors.Malformed("The body is nested too deep.")


def _as_sent(value: object) -> msgspec.Raw:
    if isinstance(value, JsonNumber):
        return msgspec.Raw(value.text.encode())
    raise TypeError(f"no JSON value: {value!r}")


def _is_same(kind: Any, value: object, present: object) -> bool:
    """Compared as values, not as texts: a client may write another offset of the same instant."""
    try:
        return bool(msgspec.convert(value, kind) == present)
    except msgspec.ValidationError:
        return False
