"""How structs, exact numbers and texts become JSON Schema."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
from litestar._openapi.schema_generation.plugins.struct import StructSchemaPlugin
from litestar.openapi.spec import Reference, Schema
from litestar.openapi.spec.enums import OpenAPIType
from litestar.plugins import OpenAPISchemaPlugin
from litestar.typing import FieldDefinition

from erp_service.decimals import Number, shortest
from erp_service.texts import Text
from erp_service.web.merge_patch import Edit, MergePatch
from erp_service.web.openapi import patch_schemas


class Structs(StructSchemaPlugin):
    """Adds what the framework omits: `additionalProperties: false` where unknown fields are refused, and the limits of
    optional fields."""

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: Any) -> Any:
        schema = super().to_openapi_schema(field_definition, schema_creator)
        struct: Any = msgspec.inspect.type_info(field_definition.type_)
        if struct.forbid_unknown_fields:
            schema.additional_properties = False
        properties = schema.properties or {}
        for field in struct.fields:
            _limit(properties[field.encode_name], field.type)
            _describe(properties[field.encode_name], field.type)
            if (name := _named_schema(field.type)) is not None:
                properties[field.encode_name] = _reference(properties[field.encode_name], field.type, name)
        return schema


def _describe(schema: Any, kind: msgspec.inspect.Type) -> None:
    """A description of the type stands for each field that has the type, or null."""
    if isinstance(schema, Reference) or schema.description or not isinstance(kind, msgspec.inspect.UnionType):
        return
    for one in kind.types:
        if isinstance(one, msgspec.inspect.Metadata):
            schema.description = (one.extra_json_schema or {}).get("description")


def _named_schema(kind: msgspec.inspect.Type) -> str | None:
    """For what is stored as JSON and sent as it is: `Meta(extra={"schema": "Problem"})` says what it is."""
    extra = kind.extra if isinstance(kind, msgspec.inspect.Metadata) else None
    return (extra or {}).get("schema")


def _reference(schema: Any, kind: Any, name: str) -> Schema:
    reference: Any = Reference(ref=f"#/components/schemas/{name}")
    members = kind.type.types if isinstance(kind.type, msgspec.inspect.UnionType) else ()
    is_nullable = any(isinstance(member, msgspec.inspect.NoneType) for member in members)
    choices = [reference, Schema(type=OpenAPIType.NULL)] if is_nullable else [reference]
    return Schema(one_of=choices, description=schema.description, examples=schema.examples)


def _limit(schema: Any, kind: Any) -> None:
    """Write down the limits that msgspec will hold; a Reference has limits of its own."""
    if not isinstance(schema, Reference) and (write := _LIMITS.get(type(kind))) is not None:
        write(schema, kind)


def _limit_union(schema: Schema, kind: msgspec.inspect.UnionType) -> None:
    # what may be null or left out is a choice of one choice
    for alternative in schema.one_of or []:
        if isinstance(alternative, Schema) and alternative.one_of:
            _limit_union(alternative, kind)
    for member in kind.types:
        one = member.type if isinstance(member, msgspec.inspect.Metadata) else member
        for alternative in schema.one_of or []:
            if isinstance(alternative, Schema) and alternative.type == _JSON_TYPES.get(type(one)):
                _limit(alternative, one)


def _limit_integer(schema: Schema, kind: msgspec.inspect.IntType) -> None:
    schema.minimum, schema.maximum = kind.ge, kind.le
    schema.exclusive_minimum, schema.exclusive_maximum = kind.gt, kind.lt


def _limit_string(schema: Schema, kind: msgspec.inspect.StrType) -> None:
    schema.min_length, schema.max_length, schema.pattern = kind.min_length, kind.max_length, kind.pattern


def _limit_array(schema: Schema, kind: msgspec.inspect.ListType) -> None:
    schema.min_items, schema.max_items = kind.min_length, kind.max_length
    _limit(schema.items, kind.item_type)


def _limit_object(schema: Schema, kind: msgspec.inspect.DictType) -> None:
    schema.max_properties = kind.max_length
    schema.property_names = Schema(type=OpenAPIType.STRING)
    _limit(schema.property_names, kind.key_type)
    if isinstance(schema.additional_properties, Schema):
        _limit(schema.additional_properties, kind.value_type)


_LIMITS: dict[type, Callable[[Any, Any], None]] = {
    msgspec.inspect.Metadata: lambda schema, kind: _limit(schema, kind.type),
    msgspec.inspect.UnionType: _limit_union,
    msgspec.inspect.IntType: _limit_integer,
    msgspec.inspect.StrType: _limit_string,
    msgspec.inspect.ListType: _limit_array,
    msgspec.inspect.DictType: _limit_object,
}
_JSON_TYPES = {
    msgspec.inspect.IntType: OpenAPIType.INTEGER,
    msgspec.inspect.StrType: OpenAPIType.STRING,
    msgspec.inspect.ListType: OpenAPIType.ARRAY,
    msgspec.inspect.DictType: OpenAPIType.OBJECT,
}


class Numbers(OpenAPISchemaPlugin):
    """Numbers are read from strings or JSON numbers, and written as strings."""

    def is_plugin_supported_field(self, field_definition: FieldDefinition) -> bool:
        return not field_definition.is_union and field_definition.is_subclass_of(Decimal)

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: Any) -> Schema:
        kind = field_definition.annotation
        if not issubclass(kind, Number):
            return Schema(type=OpenAPIType.STRING, pattern=r"^-?[0-9]+(\.[0-9]+)?$", examples=["12.5"])
        whole = kind.precision - kind.scale
        sign = "" if kind.least is not None or kind.above is not None else "-?"
        above = f", greater than {shortest(kind.above)}" if kind.above is not None else ""
        least = f", at least {shortest(kind.least)}" if kind.least is not None else ""
        text = Schema(
            type=OpenAPIType.STRING,
            pattern=rf"^{sign}[0-9]{{1,{whole}}}(\.[0-9]{{1,{kind.scale}}})?$",
            description=f"At most {kind.scale} decimals and {whole} digits before the point{above}{least}.",
        )
        most = 10**whole - 1
        number = Schema(type=OpenAPIType.NUMBER, minimum=-most if sign else 0, maximum=most)
        # a choice of oneOf would be merged into the one of a nullable field, and its name be lost
        return Schema(title=kind.__name__, any_of=[text, number], examples=["12.5"])


class Texts(OpenAPISchemaPlugin):
    """Texts with rules that JSON Schema cannot say: their lengths, and that identifiers have single blanks inside."""

    def is_plugin_supported_field(self, field_definition: FieldDefinition) -> bool:
        return not field_definition.is_union and field_definition.is_subclass_of(Text)

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: Any) -> Schema:
        kind = field_definition.annotation
        return Schema(type=OpenAPIType.STRING, min_length=kind.shortest, max_length=kind.longest, pattern=kind.pattern)


class Edits(OpenAPISchemaPlugin):
    """A body of PUT has the schema of what it is decoded into; that of a merge patch is made of the finished ones."""

    def is_plugin_supported_field(self, field_definition: FieldDefinition) -> bool:
        return not field_definition.is_union and field_definition.is_subclass_of(Edit)

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: Any) -> Any:
        kind = field_definition.annotation
        if issubclass(kind, MergePatch):
            return Reference(ref=patch_schemas.reference(kind))
        return schema_creator.for_field_definition(FieldDefinition.from_annotation(kind.body))
