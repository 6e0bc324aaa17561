"""Patroni's configuration of one node, from the environment and the secrets of its container.

Two kinds of settings. What all nodes must agree on (times, synchronous replication, `max_connections`) is in etcd; what
is said here only fills an empty etcd, and `node settings` brings a change there. Everything else is read from here
whenever a container starts.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

SCOPE = "erp"
SECRETS = Path("/run/secrets")
# of the container: a file system in memory, which nobody else sees
_TMP = Path("/tmp")  # noqa: S108


def shared(environ: Mapping[str, str]) -> dict[str, Any]:
    """What is in etcd, for all nodes. Times in seconds."""
    return {
        # A leader that cannot renew its lease steps down within `ttl`, and only then may another lead. Patroni wants
        # loop_wait + 2 * retry_timeout <= ttl, so 15 of these 20
        "ttl": int(environ.get("ERP_HA_TTL") or 20),
        "loop_wait": int(environ.get("ERP_HA_LOOP_WAIT") or 5),
        "retry_timeout": int(environ.get("ERP_HA_RETRY_TIMEOUT") or 5),
        # without etcd the leader goes on as long as it reaches all other nodes itself
        "failsafe_mode": True,
        # A commit is acknowledged when one standby has it on its disk
        "synchronous_mode": environ.get("ERP_HA_SYNCHRONOUS") or "quorum",
        "synchronous_node_count": 1,
        # without any standby the leader goes on alone, rather than to stop all writing
        "synchronous_mode_strict": False,
        # for a cluster without synchronous replication only
        "maximum_lag_on_failover": 1024 * 1024,
        "check_timeline": True,
        # A server that died is started again where it was, unless its recovery takes longer than this
        "primary_start_timeout": 10,
        # a leader that must step down and does not stop is killed
        "primary_stop_timeout": 10,
        "postgresql": {
            "use_pg_rewind": True,
            "use_slots": True,
            "parameters": {
                "max_connections": int(environ.get("ERP_DB_CONNECTIONS") or 300),
                # for pg_rewind, if the cluster was made without checksums
                "wal_log_hints": "on",
                "max_wal_senders": 10,
                "max_replication_slots": 10,
            },
        },
        # exists on every node, so that the archive of the WAL goes on from whichever leads
        "slots": {"erp_backup": {"type": "physical"}},
    }


def of_node(environ: Mapping[str, str], secrets: Path = SECRETS) -> dict[str, Any]:
    """The file that `patroni` and `patronictl` read. Raises KeyError or OSError for what is missing."""
    name = environ["ERP_NODE"]
    # how others reach it: its name, unless nodes are on several hosts
    address = environ.get("ERP_NODE_ADDRESS") or name
    return {
        "scope": SCOPE,
        "name": name,
        "log": {"level": (environ.get("ERP_LOG_LEVEL") or "info").upper(), "deduplicate_heartbeat_logs": True},
        "restapi": {
            "listen": "0.0.0.0:8008",
            "connect_address": f"{address}:8008",
            # for whatever changes something; the state is open to all who reach the port
            "authentication": {"username": "patroni", "password": _secret(secrets, "patroni_password")},
        },
        "etcd3": {"hosts": environ["ERP_ETCD"].split(",")},
        "bootstrap": {
            "dcs": shared(environ),
            "initdb": [{"encoding": "UTF8"}, "data-checksums", {"auth-local": "peer"}, {"auth-host": "scram-sha-256"}],
            "post_bootstrap": "/opt/ha/make-roles",
        },
        "postgresql": _postgresql(environ, secrets, address),
        # of three nodes on one host, a watchdog would restart all three: for nodes on hosts of their own
        "watchdog": {
            "mode": environ.get("ERP_HA_WATCHDOG") or "automatic",
            "device": "/dev/watchdog",
            "safety_margin": 5,
        },
    }


def _postgresql(environ: Mapping[str, str], secrets: Path, address: str) -> dict[str, Any]:
    return {
        "listen": "0.0.0.0:5432",
        "connect_address": f"{address}:5432",
        "data_dir": environ["PGDATA"],
        "pgpass": str(_TMP / "pgpass"),
        "use_unix_socket": True,
        "authentication": {
            "superuser": {"username": "postgres", "password": _secret(secrets, "postgres_password")},
            "replication": {"username": "erp_replica", "password": _secret(secrets, "replica_password")},
            "rewind": {"username": "erp_rewind", "password": _secret(secrets, "rewind_password")},
        },
        "pg_hba": [
            "local all postgres peer",
            "local all all scram-sha-256",
            "host replication erp_replica,erp_backup all scram-sha-256",
            "host all all all scram-sha-256",
        ],
        "basebackup": [{"checkpoint": "fast"}],
        # What pg_rewind cannot bring back is copied again: it discards the same writes, none of which was acknowledged
        "remove_data_directory_on_rewind_failure": True,
        "parameters": {
            "unix_socket_directories": str(_TMP),
            "shared_buffers": environ.get("ERP_DB_SHARED_BUFFERS") or "256MB",
            # no DETAIL and CONTEXT of errors: they quote rows
            "log_error_verbosity": "terse",
            # a standby that is away may not fill the disk; beyond it, it is copied again
            "max_slot_wal_keep_size": environ.get("ERP_DB_SLOT_WAL") or "4GB",
            # otherwise the replay cancels long exports on a standby
            "hot_standby_feedback": "on",
            # how long a connection may be silent: the leader does not wait longer for a standby that is gone
            "wal_sender_timeout": "10s",
            "wal_receiver_timeout": "10s",
            "tcp_keepalives_idle": 5,
            "tcp_keepalives_interval": 2,
            "tcp_keepalives_count": 3,
        },
    }


def _secret(secrets: Path, name: str) -> str:
    return (secrets / name).read_text().strip()
