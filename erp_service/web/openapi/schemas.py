"""Corrections of the schemas that the framework generates, for the sake of generators of clients."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Schema = dict[str, Any]

_NULL = {"type": "null"}


def tidy(document: dict[str, Any], enums: Mapping[str, Sequence[str]]) -> None:
    """Write nullable types in their short form, and each of `enums` once, under its name.

    A generator makes a class of each enum that it meets, however often the same values are written."""
    components = document["components"]["schemas"]
    names = {tuple(values): name for name, values in enums.items()}
    for schema in list(_schemas(document)):
        if "anyOf" in schema:
            # no value is of two of the kinds
            schema["oneOf"] = schema.pop("anyOf")
        _without_single_choice(schema)
        _without_control_characters(schema)
        _short_nullable(schema)
        _as_reference(schema, names, components)
        _as_number(schema, components)


def without_null(schema: Schema) -> None:
    """For a parameter: it can be left out, and cannot be sent as null."""
    kinds = [kind for kind in schema.get("oneOf", []) if kind != _NULL]
    if len(kinds) == 1:
        del schema["oneOf"]
        schema.update({name: value for name, value in kinds[0].items() if name not in schema})


def _schemas(node: Any) -> Iterator[Schema]:
    """Every object in the document that may be a schema; the innermost first."""
    if isinstance(node, dict):
        for name, child in node.items():
            # an example is a value, whatever it looks like
            if name not in ("example", "examples", "enum"):
                yield from _schemas(child)
        if not node.keys().isdisjoint(("allOf", "anyOf", "oneOf", "enum")):
            yield node
    elif isinstance(node, list):
        for child in node:
            yield from _schemas(child)


def _without_single_choice(schema: Schema) -> None:
    """What msgspec's UNSET leaves, and how the framework adds a description to a reference."""
    for word in ("allOf", "oneOf"):
        if len(kinds := schema.get(word, ())) == 1:
            del schema[word]
            schema.update({name: value for name, value in kinds[0].items() if name not in schema})


def _without_control_characters(schema: Schema) -> None:
    """The service accepts them, and clients have a word for each: generators write values into code as they are."""
    if "enum" in schema:
        schema["enum"] = [value for value in schema["enum"] if str(value).isprintable()]


def _short_nullable(schema: Schema) -> None:
    """`{"type": ["string", "null"]}` instead of a choice, where there is no reference."""
    kinds = schema.get("oneOf", [])
    others = [kind for kind in kinds if kind != _NULL]
    if len(others) != 1 or len(kinds) != 2 or "$ref" in others[0] or "enum" in others[0] or "oneOf" in others[0]:
        return
    (kind,) = others
    del schema["oneOf"]
    types = kind["type"] if isinstance(kind["type"], list) else [kind["type"]]
    schema.update({name: value for name, value in kind.items() if name not in schema})
    schema["type"] = [*types, "null"]


def _as_number(schema: Schema, components: dict[str, Schema]) -> None:
    """Each kind of exact number once, under its name, which is its title."""
    if (name := schema.get("title")) is None or "oneOf" not in schema or components.get(name) is schema:
        return
    text, number = schema["oneOf"]
    own = {"title": name, "description": text.pop("description"), "oneOf": [text, number]}
    components.setdefault(name, own)
    # what remains is what this field says of itself
    del schema["title"], schema["oneOf"]
    schema["$ref"] = f"#/components/schemas/{name}"


def _as_reference(schema: Schema, names: Mapping[tuple[str, ...], str], components: dict[str, Schema]) -> None:
    """The meaning of this use and its default stay beside the reference, as OpenAPI 3.1 allows."""
    values = tuple(value for value in schema.get("enum", ()) if value is not None)
    if (name := names.get(values)) is None:
        return
    if (component := components.get(name)) is schema:
        return
    if component is None:
        components[name] = {"type": "string", "enum": list(values), "title": name}
    reference: Schema = {"$ref": f"#/components/schemas/{name}"}
    if len(values) < len(schema["enum"]):
        reference = {"oneOf": [reference, _NULL]}
    del schema["enum"], schema["type"]
    schema.update(reference)
