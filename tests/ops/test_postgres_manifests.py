"""The cluster of Postgres on Kubernetes agrees with compose.yaml's, with the roles, the pods and the page beside it."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from erp_service import settings
from erp_service.db import migrate as schema
from erp_service.settings import Settings
from erp_service.standalone import postgres
from tests.ops.manifests import (
    API,
    INGRESS,
    NAMES,
    OPERATOR,
    PAGE,
    POSTGRES,
    PROMETHEUS,
    STRANGERS,
    Peer,
    document,
    documents,
    labels_of_pods,
    matches,
    open_ports,
)
from tests.support.databases import as_owner, connected

ROOT = Path(__file__).parents[2]
FOR_WORKER = 20
BESIDE_THE_POOL = 3
"""Connections, as ops/kubernetes/README.md counts them."""


def spec() -> dict[str, Any]:
    found: dict[str, Any] = document("Cluster")["spec"]
    return found


def parameters_of_compose() -> dict[str, str]:
    command = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["db"]["command"]
    given = dict(word.removeprefix("-c").split("=", 1) for word in command if word.startswith("-c"))
    return {name: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value) for name, value in given.items()}


def size_in_bytes(size: str) -> int:
    units = {"MB": 1 << 20, "GB": 1 << 30, "Mi": 1 << 20, "Gi": 1 << 30}
    return int(size[:-2]) * units[size[-2:]]


def test_postgres_runs_with_what_it_runs_with_in_compose() -> None:
    ours, theirs = spec()["postgresql"]["parameters"], parameters_of_compose()
    assert int(ours.pop("max_connections")) >= int(theirs.pop("max_connections"))
    assert theirs.items() <= ours.items()
    assert len(theirs) >= 3
    assert spec()["imageName"].rpartition(":")[2].startswith("18.")


def test_connections_are_enough_for_the_most_pods_that_there_can_be() -> None:
    most = {
        doc["spec"]["scaleTargetRef"]["name"]: doc["spec"].get("maxReplicas") or doc["spec"]["maxReplicaCount"]
        for doc in documents("HorizontalPodAutoscaler", "ScaledObject")
    }
    surge = {
        doc["metadata"]["name"]: doc["spec"]["strategy"]["rollingUpdate"]["maxSurge"] for doc in documents("Deployment")
    }
    pool = Settings(database_url="postgresql://erp_api@db/erp").pool_size
    each = {"erp-api": pool + BESIDE_THE_POOL, "erp-worker": FOR_WORKER}
    needed = sum((most[name] + surge[name]) * each[name] for name in each)
    # some for replication, the operator, the migration, and for you
    assert needed + 20 <= int(spec()["postgresql"]["parameters"]["max_connections"])


def test_roles_are_those_of_compose_and_of_the_grants() -> None:
    initdb, managed = spec()["bootstrap"]["initdb"], spec()["managed"]["roles"]
    assert (initdb["database"], initdb["owner"]) == ("erp", "erp_owner")
    names = [role["name"] for role in managed]
    granted = re.search(r"foreach missing in array array\[([^]]*)\]", (ROOT / "migrations/grants.sql").read_text())
    assert granted
    assert names == re.findall(r"'(\w+)'", granted[1])
    in_compose = re.findall(r"create role (\w+) login password", (ROOT / "ops/postgres/init/10-roles.sh").read_text())
    assert sorted(in_compose) == sorted([*names, initdb["owner"]])
    # a migration that came before the operator's roles would grant nothing
    assert initdb["postInitSQL"] == [f"create role {name}" for name in names]
    for role in managed:
        assert role.keys() - {"inRoles"} == {"name", "login", "superuser", "passwordSecret"}, (
            "no right beside the grants"
        )
        beside = ["pg_read_all_stats"] if role["name"] == "erp_reader" else []
        assert role.get("inRoles", []) == beside, "as ops/postgres/init"
        assert (role["login"], role["superuser"]) == (True, False)
    assert spec()["enableSuperuserAccess"] is False


async def test_an_owner_who_may_make_no_roles_migrates_what_the_operator_made(tmp_path: Path) -> None:
    """In a Postgres with the cluster's parameters: its SQL, the owner's migration, then each role has its rights."""
    initdb, parameters = spec()["bootstrap"]["initdb"], spec()["postgresql"]["parameters"]
    names = [role["name"] for role in spec()["managed"]["roles"]]
    with postgres.running(tmp_path / "postgres", fsync=False, **parameters) as cluster:
        # the embedded server comes with roles of the same names
        await as_owner(cluster, *(f"drop role {name}" for name in names), *initdb["postInitSQL"])
        await as_owner(cluster, f"create role {initdb['owner']} login", f"create database erp owner {initdb['owner']}")
        await schema.migrate(cluster.owner_url("erp").replace("postgres@", f"{initdb['owner']}@"))
        query = "select has_any_column_privilege($1, 'stock_ledger', $2)"
        async with connected(cluster.owner_url("erp")) as connection:
            may = {
                name: [await connection.fetchval(query, name, right) for right in ("select", "insert")]
                for name in names
            }
            changed = await connection.fetch("select name from pg_settings where source = 'command line'")
    assert may == {"erp_api": [True, True], "erp_worker": [True, True], "erp_reader": [True, False]}
    assert parameters.keys() <= {row["name"] for row in changed}


def test_passwords_pass_only_over_tls_and_only_for_the_roles_of_the_service() -> None:
    allowed, refused = (line.split() for line in spec()["postgresql"]["pg_hba"])
    names = {role["name"] for role in spec()["managed"]["roles"]} | {spec()["bootstrap"]["initdb"]["owner"]}
    assert (allowed[:2], set(allowed[2].split(",")), allowed[3:]) == (
        ["hostssl", "erp"],
        names,
        ["all", "scram-sha-256"],
    )
    assert refused == ["host", "all", "all", "all", "reject"]


def test_secrets_of_the_cluster_are_the_ones_that_the_page_tells_to_make() -> None:
    roles = {role["name"]: role["passwordSecret"]["name"] for role in spec()["managed"]["roles"]}
    roles[spec()["bootstrap"]["initdb"]["owner"]] = spec()["bootstrap"]["initdb"]["secret"]["name"]
    (loop,) = re.findall(
        r"^for role in ([a-z ]+); do\n.*secret generic db-\$role .*?username=erp_\$role", PAGE, re.DOTALL | re.MULTILINE
    )
    assert roles == {f"erp_{role}": f"db-{role}" for role in loop.split()}
    store = document("ObjectStore")["spec"]["configuration"]["s3Credentials"]
    (line,) = re.findall(r"create secret generic db-backup (.*)", PAGE)
    assert {(key["name"], key["key"]) for key in store.values()} == {
        ("db-backup", made) for made in re.findall(r"--from-literal=([a-z-]+)=", line)
    }


def test_addresses_are_the_services_that_the_operator_makes() -> None:
    """Each role at the Service that it is for: what writes at the primary's, the reader at the standbys'."""
    given = dict(re.findall(r'--from-literal=([a-z-]+)="(postgresql://.*?)"', PAGE))
    passwords = re.compile(r"\$\(password ([a-z]+)\)")
    found = {}
    for name, url in given.items():
        (secret,) = passwords.findall(url)
        parts = urlsplit(passwords.sub("x", url))
        assert parts.username == f"erp_{secret}"
        found[name] = (parts.username, parts.hostname, parts.path)
    cluster = document("Cluster")["metadata"]["name"]
    assert found == {
        "database-url": ("erp_api", f"{cluster}-rw.erp", "/erp"),
        "worker-database-url": ("erp_worker", f"{cluster}-rw.erp", "/erp"),
        "owner-database-url": ("erp_owner", f"{cluster}-rw.erp", "/erp"),
        "replica-url": ("erp_reader", f"{cluster}-ro.erp", "/erp"),
    }
    plain = {name: passwords.sub("x", url) for name, url in given.items()}
    settings.load({"ERP_DATABASE_URL": plain["database-url"], "ERP_REPLICA_URL": plain["replica-url"]})


def test_what_was_acknowledged_outlives_the_loss_of_any_one_server() -> None:
    """Nothing is acknowledged without a standby, and a standby that may lack it is not promoted."""
    synchronous, standbys = spec()["postgresql"]["synchronous"], spec()["instances"] - 1
    assert synchronous["dataDurability"] == "required"
    assert synchronous["failoverQuorum"] is True
    assert 1 <= synchronous["number"] < standbys, "with one standby away, writers would wait"
    assert spec()["affinity"]["podAntiAffinityType"] == "required", "two servers on one node are lost together"


def test_a_primary_that_is_cut_off_serves_no_open_session() -> None:
    assert spec()["smartShutdownTimeout"] == 0
    assert spec()["probes"]["liveness"]["isolationCheck"]["enabled"] is True
    # the pod is not killed while its server still hands over
    assert spec()["stopDelay"] > spec()["switchoverDelay"]


def test_wal_that_is_kept_for_a_standby_does_not_fill_its_volume() -> None:
    kept = size_in_bytes(spec()["postgresql"]["parameters"]["max_slot_wal_keep_size"])
    assert 2 * kept <= size_in_bytes(spec()["walStorage"]["size"])


def test_backups_are_of_this_cluster_and_into_the_store_beside_it() -> None:
    cluster, schedule, store = document("Cluster"), document("ScheduledBackup")["spec"], document("ObjectStore")
    (plugin,) = cluster["spec"]["plugins"]
    assert plugin["isWALArchiver"] is True
    assert plugin["parameters"]["barmanObjectName"] == store["metadata"]["name"]
    assert schedule["cluster"]["name"] == cluster["metadata"]["name"]
    assert (schedule["method"], schedule["pluginConfiguration"]["name"]) == ("plugin", plugin["name"])
    assert len(schedule["schedule"].split()) == 6, "seconds first: with five fields it would run each minute of an hour"


def test_wal_of_another_history_goes_to_another_place() -> None:
    """Of a restore, and of another major version: two histories in one place cannot be restored."""
    (plugin,) = spec()["plugins"]
    blocks = [
        yaml.safe_load(block)["spec"] for block in re.findall(r"^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    ]
    changed = [block["plugins"][0]["parameters"]["serverName"] for block in blocks if "plugins" in block]
    assert len({plugin["parameters"]["serverName"], *changed}) == 3
    (restore,) = (block for block in blocks if "recovery" in block.get("bootstrap", {}))
    (source,) = restore["externalClusters"]
    assert source["name"] == restore["bootstrap"]["recovery"]["source"]
    assert source["plugin"]["parameters"] == plugin["parameters"]


def test_servers_are_reached_only_by_those_who_must() -> None:
    db = labels_of_pods()["db"]
    clients = [Peer(None, labels) for name, labels in labels_of_pods().items() if name != "db"]
    assert [open_ports(db, "ingress", client) for client in clients] == [{5432}] * 3
    assert [open_ports(db, "ingress", peer) for peer in (POSTGRES, OPERATOR)] == [{5432, 8000}] * 2
    assert open_ports(db, "ingress", PROMETHEUS) == {9187}
    assert [peer for peer in (*STRANGERS, NAMES, INGRESS) if open_ports(db, "ingress", peer)] == []
    assert [open_ports(db, "egress", peer) for peer in (POSTGRES, NAMES)] == [{5432, 8000}, {53}]
    assert [peer for peer in (*STRANGERS, API, INGRESS, PROMETHEUS) if open_ports(db, "egress", peer)] == []


def test_what_follows_the_servers_follows_these() -> None:
    instance = labels_of_pods()["db"] | {"cnpg.io/podRole": "instance"}
    assert matches(document("PodMonitor")["spec"]["selector"], instance)
    for constraint in spec()["topologySpreadConstraints"]:
        assert matches(constraint["labelSelector"], instance)


def test_a_restore_ends_the_sessions_that_ops_restore_ends() -> None:
    script = (ROOT / "ops/backups/after_restore.py").read_text()
    (statements,) = re.findall(r"^```sql\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    (sessions,) = re.findall(r'_END_SESSIONS = """\n(.*?)"""', script, re.DOTALL)
    assert sessions in statements
    assert "insert into audit_log (action, entity, entity_id, after, request_id)\nvalues ('database.restored'" in script
    assert (
        "insert into audit_log (action, entity, entity_id, after, request_id)\nvalues ('database.restored'"
        in statements
    )
