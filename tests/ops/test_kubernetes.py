"""The manifests are valid for Kubernetes, and agree with the settings, the metrics and each other."""

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from erp_service import settings
from erp_service.settings import PREFIX, Settings
from tests.ops.series import known

FOLDER = Path(__file__).parents[2] / "ops/kubernetes"
VERSION = "1.31"


def documents(*kinds: str) -> list[dict[str, Any]]:
    found = [doc for file in sorted(FOLDER.glob("*.yaml")) for doc in yaml.safe_load_all(file.read_text())]
    return [doc for doc in found if not kinds or doc["kind"] in kinds]


def of_core() -> list[dict[str, Any]]:
    return [doc for doc in documents() if doc["kind"] != "ScaledObject"]


def named(doc: dict[str, Any]) -> str:
    return f"{doc['kind']}/{doc['metadata']['name']}"


def pods() -> list[dict[str, Any]]:
    return [doc["spec"]["template"]["spec"] for doc in documents("Deployment", "Job")]


@pytest.mark.parametrize("doc", of_core(), ids=named)
def test_manifest_is_what_kubernetes_takes(doc: dict[str, Any]) -> None:
    """Strict: a misspelt field is an error, although a cluster ignores it."""
    kubernetes_validate.validate(doc, VERSION, strict=True)


def test_a_misspelt_field_would_be_found() -> None:
    doc = documents("Deployment")[0]
    doc["spec"]["template"]["spec"]["terminationGracePeriod"] = 45
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(doc, VERSION, strict=True)


def test_config_names_settings_that_are_there_and_can_be_read() -> None:
    values = documents("ConfigMap")[0]["data"]
    fields = {PREFIX + name.upper() for name in Settings.__struct_fields__}
    used = {entry["name"] for pod in pods() for container in pod["containers"] for entry in container["env"]}
    assert (values.keys() | used) - fields == set()
    settings.load({**values, "ERP_DATABASE_URL": "postgresql://erp_app:x@db/erp"})


def test_nothing_is_killed_before_it_has_drained() -> None:
    values = documents("ConfigMap")[0]["data"]
    longest = float(values["ERP_DRAIN_SECONDS"]) + float(values["ERP_GRACE_SECONDS"])
    for deployment in documents("Deployment"):
        assert deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > longest + 5


def test_secrets_are_the_ones_that_the_page_tells_to_make() -> None:
    made = set(re.findall(r"--from-literal=([a-z-]+)=", (FOLDER / "README.md").read_text()))
    env = [entry for pod in pods() for container in pod["containers"] for entry in container["env"]]
    assert {entry["valueFrom"]["secretKeyRef"]["key"] for entry in env} == made
    assert not any("value" in entry for entry in env), "a secret stands in no manifest"


def test_every_pod_may_do_as_little_as_it_needs() -> None:
    for pod in pods():
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "readOnlyRootFilesystem": True,
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]


def test_what_points_to_pods_points_to_some() -> None:
    labels = [doc["spec"]["template"]["metadata"]["labels"] for doc in documents("Deployment", "Job")]
    budgets = [doc["spec"]["selector"]["matchLabels"] for doc in documents("PodDisruptionBudget")]
    services = [doc["spec"]["selector"] for doc in documents("Service")]
    policies = [doc["spec"]["podSelector"]["matchLabels"] for doc in documents("NetworkPolicy")]
    for selector in [*budgets, *services, *policies]:
        assert any(selector.items() <= found.items() for found in labels), selector
    deployments = {doc["metadata"]["name"] for doc in documents("Deployment")}
    scaled = {doc["spec"]["scaleTargetRef"]["name"] for doc in documents("HorizontalPodAutoscaler", "ScaledObject")}
    assert scaled == deployments


def test_workers_are_scaled_by_metrics_that_are_there() -> None:
    triggers = documents("ScaledObject")[0]["spec"]["triggers"]
    queries = " ".join(trigger["metadata"]["query"] for trigger in triggers)
    assert set(re.findall(r"erp_\w+", queries)) <= known()


def test_every_manifest_is_named_in_the_page() -> None:
    page = (FOLDER / "README.md").read_text()
    assert [file.name for file in FOLDER.glob("*.yaml") if file.name not in page] == []
