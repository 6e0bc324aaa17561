"""The manifests for CloudNativePG, its backups, Prometheus' operator and KEDA have no field that these do not know.

With ERP_TEST_CRDS (`make test-crds`), the definitions in those files decide, in place of the schemas kept here.
"""

import copy
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.ops.custom_resources import kept_here, published
from tests.ops.manifests import PAGE, document, documents, named

KINDS = ["Cluster", "ScheduledBackup", "ObjectStore", "PodMonitor", "ScaledObject"]
FILES = [Path(name) for name in os.environ.get("ERP_TEST_CRDS", "").split()]
KNOWN = published(*FILES) if FILES else kept_here()
MAPS = {"matchLabels", "parameters", "requests", "limits", "metadata"}
"""Whose keys are free."""


def check(doc: dict[str, Any]) -> None:
    """Raises ValidationError, or KeyError for a kind or a version that is not known."""
    jsonschema.Draft202012Validator(KNOWN[doc["apiVersion"], doc["kind"]]).validate(doc)


def patched(value: Any, patch: Any) -> Any:
    """JSON merge patch (RFC 7386): as `kubectl patch --type=merge` does it."""
    if not isinstance(patch, dict):
        return patch
    result = dict(value) if isinstance(value, dict) else {}
    for key, each in patch.items():
        if each is None:
            result.pop(key, None)
        else:
            result[key] = patched(result.get(key), each)
    return result


def misspelt(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The value once for each name of a field in it, with a letter more in that name."""
    if isinstance(value, list):
        for at, each in enumerate(value):
            for where, wrong in misspelt(each, path):
                yield where, [*value[:at], wrong, *value[at + 1 :]]
    elif isinstance(value, dict):
        for key, each in value.items():
            rest = {other: copy.deepcopy(kept) for other, kept in value.items() if other != key}
            yield (*path, key), rest | {f"{key}s": each}
            for where, wrong in misspelt(each, (*path, key)):
                yield where, rest | {key: wrong}


@pytest.mark.parametrize("doc", documents(*KINDS), ids=named)
def test_custom_resource_is_what_its_schema_takes(doc: dict[str, Any]) -> None:
    check(doc)


@pytest.mark.parametrize("doc", documents(*KINDS), ids=named)
def test_a_misspelt_field_would_be_found_wherever_it_stands(doc: dict[str, Any]) -> None:
    tried = [(path, {**doc, "spec": spec}) for path, spec in misspelt(doc["spec"])]
    assert tried
    for path, wrong in tried:
        if set(path[:-1]) & MAPS:
            continue
        with pytest.raises(jsonschema.ValidationError):
            check(wrong)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("instances", "three"),
        ("primaryUpdateMethod", "promote"),
        ("postgresql", {"synchronous": {"method": "quorum", "number": 1}}),
        ("postgresql", {"synchronous": {"method": "any"}}),
        ("storage", "50Gi"),
    ],
)
def test_a_value_of_another_type_would_be_found(field: str, value: object) -> None:
    doc = document("Cluster")
    doc["spec"][field] = value
    with pytest.raises(jsonschema.ValidationError):
        check(doc)


def test_what_the_page_tells_to_change_is_what_the_schema_takes() -> None:
    blocks = [yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)]
    assert len(blocks) == 4
    for block in blocks:
        check(patched(document("Cluster"), block))


DEFINITION = """
kind: List
items:
- kind: CustomResourceDefinition
  spec:
    group: example.com
    names: {kind: Thing}
    versions:
    - name: v1
      schema:
        openAPIV3Schema:
          type: object
          properties:
            kind: {type: string}
            metadata: {type: object}
            spec:
              type: object
              properties:
                size: {anyOf: [{type: integer}, {type: string}], x-kubernetes-int-or-string: true}
                labels: {type: object, additionalProperties: {type: string}}
                parts: {type: array, items: {type: object, properties: {properties: {type: string}}}}
                free: {type: object, properties: {known: {type: string}}, x-kubernetes-preserve-unknown-fields: true}
"""


@pytest.mark.parametrize(
    ("spec", "taken"),
    [
        ({"size": "1Gi", "labels": {"a": "b"}, "parts": [{"properties": "x"}], "free": {"other": 1}}, True),
        ({"size": 1}, True),
        ({"size": 1.5}, False),
        ({"sizes": 1}, False),
        ({"parts": [{"property": "x"}]}, False),
        ({"labels": {"a": 1}}, False),
    ],
)
def test_a_published_definition_is_closed(tmp_path: Path, spec: dict[str, Any], taken: bool) -> None:
    (tmp_path / "crds.yaml").write_text(DEFINITION)
    schema = published(tmp_path / "crds.yaml")["example.com/v1", "Thing"]
    found = jsonschema.Draft202012Validator(schema).is_valid({"kind": "Thing", "metadata": {"name": "x"}, "spec": spec})
    assert found is taken
