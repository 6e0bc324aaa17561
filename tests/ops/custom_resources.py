"""JSON schemas of custom resources, closed: a field that they do not name is an error.

An API server drops such a field, with a warning at most unless the client asks for more.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

SCHEMAS = Path(__file__).parent / "schemas"

Schemas = dict[tuple[str, str], Any]
"""By apiVersion and kind."""


def kept_here() -> Schemas:
    """Those in tests/ops/schemas, whose README says what they are made from."""
    found = [json.loads(file.read_text()) for file in sorted(SCHEMAS.glob("*.json"))]
    return {
        (schema["properties"]["apiVersion"]["const"], schema["properties"]["kind"]["const"]): schema for schema in found
    }


def published(*files: Path) -> Schemas:
    """Those of the CustomResourceDefinitions in these files, as an operator's release or `kubectl get crd` has them."""
    found: Schemas = {}
    for definition in (each for file in files for each in definitions(file)):
        group, kind = definition["spec"]["group"], definition["spec"]["names"]["kind"]
        for version in definition["spec"]["versions"]:
            found[f"{group}/{version['name']}", kind] = closed(version["schema"]["openAPIV3Schema"])
    return found


def definitions(file: Path) -> Iterator[dict[str, Any]]:
    for document in yaml.safe_load_all(file.read_text()):
        for each in (document or {}).get("items", [document]):
            if each and each["kind"] == "CustomResourceDefinition":
                yield each


def closed(schema: Any) -> Any:
    """An OpenAPI schema of Kubernetes as a JSON schema in which an object has the fields that are named, and no other.

    Left open are maps, and what the API server leaves open too."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    result = {key: closed(value) for key, value in schema.items() if key not in {"properties", "default"}}
    if "properties" in schema:
        result["properties"] = {name: closed(each) for name, each in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            result.setdefault("additionalProperties", False)
    return result
