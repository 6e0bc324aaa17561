"""Each type of problem as a schema of its own, with the members that it adds to RFC 9457."""

from collections.abc import Iterable
from typing import Any

import msgspec

from erp_service import errors
from erp_service.errors import Fault, Refused
from erp_service.problems import MEDIA_TYPE, Problem

_TEMPLATE = "#/components/schemas/{name}"


def _reference(name: str) -> dict[str, str]:
    return {"$ref": _TEMPLATE.format(name=name)}


class ProblemSchemas:
    """Adds to the schemas of the document those of the problems that are asked for."""

    def __init__(self, schemas: dict[str, Any]) -> None:
        self._schemas = schemas
        self._taken = frozenset(schemas)
        _, parts = msgspec.json.schema_components([Problem, Fault], ref_template=_TEMPLATE)
        self._base = parts["Problem"]
        # a type that the caller does not know yet may have members of its own
        self._schemas.update({**parts, "Problem": {**self._base, "additionalProperties": True}})

    def content(self, kinds: Iterable[type[Refused]]) -> dict[str, Any]:
        """The content of an answer that is one of these problems. `type` says which."""
        names = {f"/problems/{kind.slug}": self._name(kind) for kind in kinds}
        if len(names) == 1:
            return {MEDIA_TYPE: {"schema": _reference(*names.values())}}
        mapping = {slug: _TEMPLATE.format(name=name) for slug, name in names.items()}
        schema = {
            "oneOf": [_reference(name) for name in names.values()],
            "discriminator": {"propertyName": "type", "mapping": mapping},
        }
        return {MEDIA_TYPE: {"schema": schema}}

    def _name(self, kind: type[Refused]) -> str:
        name = f"{kind.__name__}Problem"
        if name not in self._schemas:
            self._schemas[name] = self._schema(kind, name)
        return name

    def _schema(self, kind: type[Refused], name: str) -> dict[str, Any]:
        properties = {
            **self._base["properties"],
            "type": {"type": "string", "const": f"/problems/{kind.slug}", "description": "which problem it is"},
            "status": {"type": "integer", "const": kind.status, "description": "the status of the answer"},
        }
        required = list(self._base["required"])
        if (extension := kind.extension) is not None:
            _, parts = msgspec.json.schema_components([extension], ref_template=_TEMPLATE)
            own = parts.pop(extension.__name__)
            properties |= own["properties"]
            required += own.get("required", [])
            # else the answers with the other type would be documented as this one
            if clash := parts.keys() & self._taken:
                raise ValueError(f"other types of answers are called so: {', '.join(sorted(clash))}")
            self._schemas.update(parts)
        return {
            "title": name,
            "description": " ".join((kind.__doc__ or kind.title).split("\n\n")[0].split()),
            "type": "object",
            "properties": properties,
            "required": required,
        }


def headers_of(kinds: Iterable[type[Refused]]) -> set[str]:
    """What the answers with these problems carry."""
    names: set[str] = set()
    for kind in kinds:
        names |= _OF_STATUS.get(kind.status, set())
        if kind.extension is errors.RetryLater:
            names.add("Retry-After")
        if kind is errors.KeyScopeMissing:
            names.add("WWW-Authenticate")
    return names


_OF_STATUS = {
    401: {"WWW-Authenticate"},
    412: {"ETag"},
    416: {"Content-Range", "Accept-Ranges"},
    429: {"Retry-After", "RateLimit", "RateLimit-Policy"},
    503: {"Retry-After"},
}
