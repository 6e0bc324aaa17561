"""Alerts and dashboard name only metrics and runbooks that exist."""

import json
import re
from importlib.metadata import distribution
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from erp_service.db.engine import Database
from erp_service.operations.cluster_metrics import ClusterMetrics
from tests.ops.series import OPS, PATRONI, known

ALERTS = "".join((OPS / "monitoring" / name).read_text() for name in ("alerts.yml", "alerts_ha.yml"))
DASHBOARD = (OPS / "monitoring/dashboard.json").read_text()
_OWN = re.compile(r"\b(?:erp|process|patroni|etcd)_[a-z_]+[a-z]\b")


@pytest.mark.parametrize("text", [ALERTS, DASHBOARD], ids=["alerts", "dashboard"])
def test_every_metric_that_is_asked_for_is_there(text: str) -> None:
    expressions = re.sub(r"\(erp_queue_\.\.\..*?\)", "", re.sub(r"^ *#.*$", "", text, flags=re.MULTILINE))
    asked = set(_OWN.findall(expressions)) - {"erp_service"}
    assert asked, "there is something to hold"
    assert asked - known() == set()


def test_series_of_patroni_are_those_that_it_exports() -> None:
    """Its class of requests writes them one by one into its answer, with a line of their type before each."""
    source = Path(str(distribution("patroni").locate_file("patroni/api.py"))).read_text()
    assert set(re.findall(r"# TYPE (patroni_\w+)", source)) == PATRONI


def test_every_alert_has_a_runbook_that_is_there() -> None:
    alerts = re.findall(r"- alert: (\w+)", ALERTS)
    runbooks = re.findall(r"runbook: ops/(\S+)", ALERTS)
    assert len(alerts) == len(runbooks) == len(set(alerts))
    assert [runbook for runbook in runbooks if not is_there(runbook)] == []


def is_there(runbook: str) -> bool:
    """Whether the page has the section, if one is named after `#` as GitHub names them."""
    page, _, section = runbook.partition("#")
    if not (OPS / page).is_file():
        return False
    titles = re.findall(r"^#+ (.*)$", (OPS / page).read_text(), flags=re.MULTILINE)
    return not section or section in {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


def test_every_alert_of_a_failover_is_tried() -> None:
    tests = (OPS / "monitoring/alerts_ha_test.yml").read_text()
    untried = [alert for alert in re.findall(r"- alert: (Erp\w+)", ALERTS) if f"alertname: {alert}\n" not in tests]
    assert untried == []


def test_dashboard_is_one_that_grafana_reads() -> None:
    dashboard = json.loads(DASHBOARD)
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(target["expr"] for panel in panels for target in panel["targets"])
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(places)) == len(places)


def test_cluster_collector_names_what_it_says() -> None:
    registry = CollectorRegistry()
    registry.register(ClusterMetrics(Database.__new__(Database), []))
    assert [family.name for family in registry.collect()] == ["erp_database_up"]
