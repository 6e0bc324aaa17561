"""The manifests in ops/kubernetes, and what their network policies open."""

from pathlib import Path
from typing import Any, NamedTuple

import yaml

FOLDER = Path(__file__).parents[2] / "ops/kubernetes"
PAGE = (FOLDER / "README.md").read_text()


def documents(*kinds: str) -> list[dict[str, Any]]:
    """Read anew each time, so that a test may change them."""
    found = [doc for file in sorted(FOLDER.glob("*.yaml")) for doc in yaml.safe_load_all(file.read_text())]
    return [doc for doc in found if not kinds or doc["kind"] in kinds]


def document(kind: str) -> dict[str, Any]:
    """The only one of its kind."""
    (found,) = documents(kind)
    return found


def named(doc: dict[str, Any]) -> str:
    return f"{doc['kind']}/{doc['metadata']['name']}"


def labels_of_pods() -> dict[str, dict[str, str]]:
    """Of each pod that a manifest makes, by the manifest's name: the service's own, and the servers of Postgres."""
    own = {
        doc["metadata"]["name"]: doc["spec"]["template"]["metadata"]["labels"] for doc in documents("Deployment", "Job")
    }
    return own | {doc["metadata"]["name"]: {"cnpg.io/cluster": doc["metadata"]["name"]} for doc in documents("Cluster")}


def matches(selector: dict[str, Any] | None, labels: dict[str, str]) -> bool:
    if selector is None:
        return False
    expressions = selector.get("matchExpressions", [])
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        labels.get(expression["key"]) in expression["values"] for expression in expressions
    )


class Peer(NamedTuple):
    """A pod in another namespace, or in the service's own if that is None."""

    namespace: str | None
    labels: dict[str, str]

    def is_named_by(self, peer: dict[str, Any]) -> bool:
        if "ipBlock" in peer:
            return False
        if "namespaceSelector" in peer:
            names = {} if self.namespace is None else {"kubernetes.io/metadata.name": self.namespace}
            return matches(peer["namespaceSelector"], names) and matches(peer.get("podSelector", {}), self.labels)
        return self.namespace is None and matches(peer["podSelector"], self.labels)


def open_ports(pod: dict[str, str], direction: str, peer: Peer) -> set[str | int]:
    """The ports that the policies open between a pod with these labels and its peer; `any` for all of them."""
    policies = [doc["spec"] for doc in documents("NetworkPolicy") if matches(doc["spec"]["podSelector"], pod)]
    policies = [policy for policy in policies if direction.title() in policy["policyTypes"]]
    if not policies:
        return {"any"}
    rules = [rule for policy in policies for rule in policy.get(direction, [])]
    side = "from" if direction == "ingress" else "to"
    passing = [rule for rule in rules if side not in rule or any(peer.is_named_by(each) for each in rule[side])]
    return {port["port"] for rule in passing for port in rule.get("ports", [{"port": "any"}])}


INGRESS = Peer("ingress-nginx", {"app.kubernetes.io/name": "ingress-nginx"})
PROMETHEUS = Peer("monitoring", {"app.kubernetes.io/name": "prometheus"})
NAMES = Peer("kube-system", {"k8s-app": "kube-dns"})
POSTGRES = Peer(None, {"cnpg.io/cluster": "db"})
OPERATOR = Peer("cnpg-system", {"app.kubernetes.io/name": "cloudnative-pg"})
API = Peer(None, {"app.kubernetes.io/name": "erp", "app.kubernetes.io/component": "api"})
STRANGERS = [
    Peer("default", {}),
    Peer("ingress-nginx", {}),
    Peer("monitoring", {"app.kubernetes.io/name": "grafana"}),
    Peer("kube-system", {}),
    Peer("cnpg-system", {}),
    Peer(None, {}),
]
