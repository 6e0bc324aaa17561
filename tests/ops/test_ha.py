"""The profile `ha`: what Patroni is given it takes, and compose, secrets and scripts agree."""

import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from patroni.config import Config
from patroni.exceptions import ConfigParseError
from patroni.validator import schema

from erp_service.db.servers.addresses import parse
from ops.ha.configuration import of_node, shared
from ops.ha.data import Refused, give_back, take_over

ROOT = Path(__file__).parents[2]
NODES = ("db1", "db2", "db3")
ETCD = ("etcd1", "etcd2", "etcd3")
SECRETS = ("postgres_password", "patroni_password", "rewind_password", "replica_password")


@pytest.fixture
def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
    return document


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    for name in SECRETS:
        (tmp_path / name).write_text(f"the {name}")
    return tmp_path


def where_nothing_is_set(value: str) -> str:
    return re.sub(r"\$\{\w+:-(.*?)\}", r"\1", value)


def environment(compose: Mapping[str, Any], service: str) -> dict[str, str]:
    """Of a server or a member of etcd, as compose makes it."""
    shared = compose["x-etcd-environment" if service in ETCD else "x-node-environment"]
    entries = {**shared, **compose["services"][service]["environment"]}
    return {name: where_nothing_is_set(value) for name, value in entries.items() if name != "<<"}


def inner_address(compose: Mapping[str, Any], service: str) -> str:
    return where_nothing_is_set(compose["services"][service]["networks"]["etcd"]["ipv4_address"])


@pytest.mark.parametrize("node", NODES)
def test_configuration_is_what_patroni_takes(compose: dict[str, Any], secrets: Path, node: str) -> None:
    """Not whether hosts answer and directories are there: only Patroni in the container can say that."""
    made = of_node({**environment(compose, node), "PGDATA": "/var/lib/postgresql/18/patroni"}, secrets)
    elsewhere = {"etcd3.hosts", "postgresql.bin_dir", "postgresql.data_dir", "postgresql.listen", "restapi.listen"}
    told = [one for one in schema.validate(made) if not one.status and not elsewhere & {one.path, *_parents(one.path)}]
    assert [(one.path, str(one)) for one in told] == []


def _parents(path: str) -> list[str]:
    words = path.split(".")
    return [".".join(words[:n]) for n in range(1, len(words))]


def test_a_wrong_value_would_be_found(compose: dict[str, Any], secrets: Path) -> None:
    made = of_node({**environment(compose, "db1"), "PGDATA": "/data"}, secrets)
    made["bootstrap"]["dcs"]["synchronous_mode"] = "perhaps"
    assert "bootstrap.dcs.synchronous_mode" in {one.path for one in schema.validate(made) if not one.status}


def test_patroni_reads_the_file_and_keeps_our_times(
    compose: dict[str, Any], secrets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would silently take its own if they did not fit each other."""
    for name in os.environ:
        if name.startswith("PATRONI_"):
            monkeypatch.delenv(name)
    made = of_node({**environment(compose, "db1"), "PGDATA": str(tmp_path / "none")}, secrets)
    file = tmp_path / "patroni.json"
    file.write_text(json.dumps(made))
    try:
        config = Config(str(file))
    except ConfigParseError as exc:
        pytest.fail(str(exc))
    times = made["bootstrap"]["dcs"]
    assert times["loop_wait"] + 2 * times["retry_timeout"] <= times["ttl"]
    config.set_dynamic_configuration(times)
    assert {name: config[name] for name in ("ttl", "loop_wait", "retry_timeout")} == {
        "ttl": 20,
        "loop_wait": 5,
        "retry_timeout": 5,
    }


def test_settings_of_the_plain_server_are_those_of_the_three(compose: dict[str, Any], secrets: Path) -> None:
    plain = dict(part.removeprefix("-c").split("=", 1) for part in compose["services"]["db"]["command"][1:])
    made = of_node({**environment(compose, "db1"), "PGDATA": "/data"}, secrets)
    of_three = {**made["postgresql"]["parameters"], **made["bootstrap"]["dcs"]["postgresql"]["parameters"]}
    for name, value in plain.items():
        assert str(of_three[name]) == re.sub(r"\$\{\w+:-(.*?)\}", r"\1", value), name


def test_every_node_is_told_what_can_be_set(compose: dict[str, Any]) -> None:
    source = (ROOT / "ops/ha/configuration.py").read_text()
    read = set(re.findall(r'environ(?:\.get\(|\[)"(\w+)"', source))
    # of a node on a host of its own, and what the entry point sets itself
    elsewhere = {"ERP_NODE_ADDRESS", "PGDATA"}
    for node in NODES:
        assert read - elsewhere <= set(environment(compose, node))


def test_nodes_have_the_secrets_that_they_read(compose: dict[str, Any]) -> None:
    roles = re.findall(r"/run/secrets/(\w+)", (ROOT / "ops/postgres/init/10-roles.sh").read_text())
    assert set(compose["x-node"]["secrets"]) == {*SECRETS, *roles}
    assert set(compose["x-node"]["secrets"]) <= set(compose["secrets"])


def test_only_servers_reach_etcd(compose: dict[str, Any]) -> None:
    services = {name: {**_merged(service), **service} for name, service in compose["services"].items()}
    inside = {name for name, service in services.items() if "etcd" in (service.get("networks") or [])}
    assert inside == {*NODES, *ETCD}
    assert compose["networks"]["etcd"]["internal"] is True
    for name in ETCD:
        assert "ports" not in services[name]
        # in the other network there is nothing but the figures for Prometheus
        said = environment(compose, name)
        inner = inner_address(compose, name)
        assert said["ETCD_LISTEN_CLIENT_URLS"] == f"http://127.0.0.1:2379,http://{inner}:2379"
        assert said["ETCD_LISTEN_PEER_URLS"] == f"http://{inner}:2380"


def test_servers_and_etcd_need_no_name_server_for_each_other(compose: dict[str, Any]) -> None:
    """A leader that was cut off waited a minute for one, and stopped that much too late."""
    own = {name: inner_address(compose, name) for name in (*NODES, *ETCD)}
    for node in NODES:
        said = environment(compose, node)
        assert said["ERP_NODE_ADDRESS"] == own[node]
        assert said["ERP_ETCD"] == ",".join(f"{own[member]}:2379" for member in ETCD)
    for member in ETCD:
        said = environment(compose, member)
        assert said["ETCD_INITIAL_CLUSTER"] == ",".join(f"{name}=http://{own[name]}:2380" for name in ETCD)
        assert said["ETCD_ADVERTISE_CLIENT_URLS"] == f"http://{own[member]}:2379"
        assert said["ETCD_INITIAL_ADVERTISE_PEER_URLS"] == f"http://{own[member]}:2380"


def _merged(service: Mapping[str, Any]) -> Mapping[str, Any]:
    merged: Mapping[str, Any] = service.get("<<", {})
    return merged


def test_each_server_has_a_volume_of_its_own_and_the_first_has_that_of_the_plain_one(compose: dict[str, Any]) -> None:
    services = compose["services"]
    volumes = {name: services[name]["volumes"][0].partition(":")[0] for name in ("db", *NODES, *ETCD)}
    assert volumes["db1"] == volumes["db"]
    assert len(set(volumes.values())) == len(volumes) - 1
    assert set(volumes.values()) <= set(compose["volumes"])


def made(where: Path, *arguments: str, **env: str) -> dict[str, str]:
    """What `ops/secrets` says in these circumstances is in the directory afterwards, by name."""
    environ = {"PATH": os.environ["PATH"], "ERP_SECRETS": str(where), "COMPOSE_PROFILES": "", **env}
    subprocess.run([ROOT / "ops/secrets", *arguments], env=environ, check=True, capture_output=True)
    return {file.name: file.read_text() for file in where.iterdir() if file.is_file()}


def servers(secrets: Mapping[str, str]) -> set[str]:
    return {urlsplit(secrets[name]).netloc.partition("@")[2] for name in secrets if name.endswith("database_url")}


def test_secrets_of_the_profile_have_the_addresses_of_all_three(tmp_path: Path) -> None:
    secrets = made(tmp_path, COMPOSE_PROFILES="monitoring,ha")
    assert servers(secrets) == {"db1,db2,db3"}
    for name in ("database_url", "replica_url"):
        assert [host.name for host in parse(secrets[name]).hosts] == list(NODES)
    assert parse(secrets["replica_url"]).target == "prefer-standby"


def test_there_and_back_changes_addresses_only(tmp_path: Path) -> None:
    plain = made(tmp_path)
    assert servers(plain) == {"db"}
    changed = made(tmp_path, COMPOSE_PROFILES="ha")
    assert servers(changed) == {"db1,db2,db3"}
    assert {name for name in plain if plain[name] != changed[name]} == {
        "owner_database_url", "backup_database_url", "database_url", "worker_database_url", "replica_url",
    }  # fmt: skip
    # a shell that does not know the profile changes nothing
    assert made(tmp_path) == changed
    assert made(tmp_path, "plain") == plain


def test_addresses_of_other_servers_are_kept(tmp_path: Path) -> None:
    made(tmp_path)
    other = "postgresql://erp_api:x@db.example.com/erp?sslmode=verify-full"
    (tmp_path / "database_url").write_text(other)
    assert made(tmp_path, "ha")["database_url"] == other


AUTHENTICATION = {
    "replication": {"username": "erp_replica", "password": "one"},
    "rewind": {"username": "erp_rewind", "password": "it's"},
}


def test_nothing_is_taken_over_where_there_is_nothing(tmp_path: Path) -> None:
    take_over(tmp_path / "docker", tmp_path / "patroni", AUTHENTICATION, print)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("left", ["postmaster.pid", "standby.signal"])
def test_data_of_a_server_that_runs_or_was_a_standby_is_not_given_back(tmp_path: Path, left: str) -> None:
    data = tmp_path / "patroni"
    data.mkdir()
    for name in ("PG_VERSION", left):
        (data / name).write_text("18")
    with pytest.raises(Refused):
        give_back(data, tmp_path / "docker")
    assert not (tmp_path / "docker").exists()


def test_data_is_not_given_back_over_other_data(tmp_path: Path) -> None:
    for name in ("patroni", "docker"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "PG_VERSION").write_text("18")
    with pytest.raises(Refused):
        give_back(tmp_path / "patroni", tmp_path / "docker")


def test_the_page_names_what_can_be_set(compose: dict[str, Any]) -> None:
    page = (ROOT / "ops/ha.md").read_text()
    names = {name for name in compose["x-node-environment"] if name.startswith("ERP_HA_") and name != "ERP_HA_FIRST"}
    assert [name for name in sorted(names) if f"`{name}`" not in page] == []
    assert [key for key in shared({}) if key.startswith("primary_") and f"`{key}`" not in page] == []
