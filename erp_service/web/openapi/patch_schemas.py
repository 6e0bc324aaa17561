"""The schemas of merge patches (RFC 7396), made of those of the bodies that they change."""

from collections.abc import Collection
from typing import Any

from erp_service.web.merge_patch import MergePatch

Schema = dict[str, Any]

_PREFIX = "#/components/schemas/"
_NULL = {"type": "null"}
_ABOUT = (
    "A merge patch (RFC 7396): a field that is left out stays as it is, null gives it its default, objects are merged"
    " by key, lists are replaced."
)


def reference(kind: type[MergePatch[Any, Any]]) -> str:
    return f"{_PREFIX}{kind.__name__}"


def complete(schemas: dict[str, Schema], kinds: Collection[type[MergePatch[Any, Any]]]) -> None:
    """Add the schema of each kind of merge patch to the finished ones."""
    for kind in kinds:
        _add(schemas, kind.__name__, schemas[kind.body.__name__], kind.removable)


def _add(schemas: dict[str, Schema], name: str, body: Schema, removable: Collection[str]) -> None:
    schemas[name] = {}
    properties = {
        field: _nullable(part) if field in removable else part
        for field, schema in body["properties"].items()
        for part in [_patched({key: value for key, value in schema.items() if key != "default"}, schemas)]
    }
    kept = {key: value for key, value in body.items() if key not in ("required", "description")}
    schemas[name] = {**kept, "title": name, "description": _ABOUT, "properties": properties}


def _patched(schema: Schema, schemas: dict[str, Schema]) -> Schema:
    """What a patch may have where a body has this."""
    if isinstance(values := schema.get("additionalProperties"), dict):
        return {**schema, "additionalProperties": _nullable(values)}
    target = schema.get("$ref", "").removeprefix(_PREFIX)
    if "properties" not in schemas.get(target, {}):
        return schema
    name = f"{target}Patch"
    if name not in schemas:
        fields = schemas[target]
        _add(schemas, name, fields, fields["properties"].keys() - fields.get("required", []))
    return {**schema, "$ref": f"{_PREFIX}{name}"}


def _nullable(schema: Schema) -> Schema:
    if "oneOf" in schema:
        choices = schema["oneOf"]
        return schema if _NULL in choices else {**schema, "oneOf": [*choices, _NULL]}
    if "$ref" in schema:
        others = {key: value for key, value in schema.items() if key != "$ref"}
        return {**others, "oneOf": [{"$ref": schema["$ref"]}, _NULL]}
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return {**schema, "type": [*kinds, *(["null"] if "null" not in kinds else [])]}
