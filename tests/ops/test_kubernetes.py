"""The manifests are valid for Kubernetes, and agree with the settings, the metrics and each other."""

import re
from typing import Any

import kubernetes_validate
import pytest
import yaml

from erp_service import settings
from erp_service.settings import PREFIX, Settings
from tests.ops.manifests import (
    API,
    FOLDER,
    INGRESS,
    NAMES,
    OPERATOR,
    PAGE,
    POSTGRES,
    PROMETHEUS,
    STRANGERS,
    documents,
    labels_of_pods,
    named,
    open_ports,
)
from tests.ops.series import known

VERSION = "1.31"
CUSTOM = {"keda.sh", "postgresql.cnpg.io", "barmancloud.cnpg.io", "monitoring.coreos.com"}


def of_core() -> list[dict[str, Any]]:
    return [doc for doc in documents() if doc["apiVersion"].partition("/")[0] not in CUSTOM]


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
    settings.load({**values, "ERP_DATABASE_URL": "postgresql://erp_api:x@db/erp"})


def test_nothing_is_killed_before_it_has_drained() -> None:
    values = documents("ConfigMap")[0]["data"]
    longest = float(values["ERP_DRAIN_SECONDS"]) + float(values["ERP_GRACE_SECONDS"])
    for deployment in documents("Deployment"):
        assert deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > longest + 5


def test_secrets_are_the_ones_that_the_page_tells_to_make() -> None:
    made = set(re.findall(r"--from-literal=([a-z-]+)=", PAGE[PAGE.index("create secret generic erp ") :]))
    env = [entry for pod in pods() for container in pod["containers"] for entry in container["env"]]
    assert {entry["valueFrom"]["secretKeyRef"]["key"] for entry in env} == made
    assert {entry["valueFrom"]["secretKeyRef"]["name"] for entry in env} == {"erp"}
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


def test_network_reaches_only_the_ports_that_are_meant() -> None:
    """The ingress reached every port of the workers, and all pods reached everything."""
    own = {name: labels for name, labels in labels_of_pods().items() if name != "db"}
    into = {
        name: [open_ports(labels, "ingress", peer) for peer in (INGRESS, PROMETHEUS)] for name, labels in own.items()
    }
    assert into == {
        "erp-api": [{"http"}, {"http"}],
        "erp-worker": [set(), {"metrics"}],
        "erp-migrate": [set(), set()],
    }
    others = [*STRANGERS, API, OPERATOR]
    for labels in own.values():
        assert [open_ports(labels, "egress", peer) for peer in (NAMES, POSTGRES)] == [{53}, {5432}]
        assert [peer for peer in (*others, NAMES, POSTGRES) if open_ports(labels, "ingress", peer)] == []
        assert [peer for peer in (*others, INGRESS, PROMETHEUS) if open_ports(labels, "egress", peer)] == []


def test_metrics_are_behind_no_path_of_the_ingress() -> None:
    paths = [path["path"] for doc in documents("Ingress") for path in doc["spec"]["rules"][0]["http"]["paths"]]
    assert not [path for path in paths if "/metrics".startswith(path)]


def test_each_process_has_the_secrets_that_it_needs_and_no_other() -> None:
    """Workers sign no token, and only the migration is the owner."""
    had = {
        doc["metadata"]["name"]: {
            entry["name"]: entry["valueFrom"]["secretKeyRef"]["key"]
            for entry in doc["spec"]["template"]["spec"]["containers"][0]["env"]
        }
        for doc in documents("Deployment", "Job")
    }
    assert had == {
        "erp-api": {
            "ERP_DATABASE_URL": "database-url",
            "ERP_REPLICA_URL": "replica-url",
            "ERP_JWT_SECRET": "jwt-secret",
        },
        "erp-worker": {"ERP_DATABASE_URL": "worker-database-url", "ERP_REPLICA_URL": "replica-url"},
        "erp-migrate": {"ERP_DATABASE_URL": "owner-database-url"},
    }


def test_compose_gives_each_process_the_secrets_that_it_needs_and_no_other() -> None:
    services = yaml.safe_load((FOLDER.parents[1] / "compose.yaml").read_text())["services"]
    assert {name: sorted(service.get("secrets", [])) for name, service in services.items() if name in MEANT} == MEANT
    for service in services.values():
        of_files = {
            str(value).rpartition("/")[2]
            for name, value in service.get("environment", {}).items()
            if name.endswith("_FILE") and str(value).startswith("/run/secrets/")
        }
        assert of_files <= {*service.get("secrets", []), "owner_database_url"}


MEANT = {
    "api": ["database_url", "jwt_secret", "replica_url"],
    "worker": ["replica_url", "worker_database_url"],
    "migrate": ["owner_database_url"],
    "balancer": [],
    "wal": ["backup_database_url"],
    "backup": ["backup_database_url", "owner_database_url"],
    "replica": ["replica_password"],
}


def test_what_points_to_pods_points_to_some() -> None:
    labels = labels_of_pods().values()
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
    assert [file.name for file in FOLDER.glob("*.yaml") if file.name not in PAGE] == []
