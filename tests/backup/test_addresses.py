"""Addresses with several hosts, as libpq reads them."""

import pytest

from ops.backups.addresses import hosts_of, variables_of
from ops.backups.programs import Failure, server_of

LEADER = {"PGTARGETSESSIONATTRS": "primary", "PGCONNECT_TIMEOUT": "3"}


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("postgresql://u:p%40ss@db/erp", {"PGHOST": "db", "PGUSER": "u", "PGPASSWORD": "p@ss", "PGDATABASE": "erp"}),
        ("postgresql://u@/erp?host=/run/a&port=5433", {"PGHOST": "/run/a", "PGPORT": "5433", "PGUSER": "u"}),
        ("postgresql://%2Frun%2Fa/erp", {"PGHOST": "/run/a"}),
        ("postgresql://[::1]:5433/erp", {"PGHOST": "::1", "PGPORT": "5433"}),
        ("postgresql:///erp?sslmode=verify-full", {"PGSSLMODE": "verify-full", "PGDATABASE": "erp"}),
    ],
)
def test_one_host_is_as_it_was(address: str, expected: dict[str, str]) -> None:
    variables = variables_of(address)
    assert expected.items() <= variables.items()
    assert not LEADER.keys() & variables.keys()


@pytest.mark.parametrize(
    ("address", "hosts", "ports"),
    [
        ("postgresql://u:p@a,b:5433,c/erp", "a,b,c", "5432,5433,5432"),
        ("postgresql://u:p@a,b,c/erp", "a,b,c", None),
        ("postgresql://u@/erp?host=a,b&port=1,2", "a,b", "1,2"),
        ("postgresql://u@/erp?host=/run/a,/run/b&port=5433", "/run/a,/run/b", "5433"),
        ("postgresql://a,[::1]:5433,[fe80::1]/erp", "a,::1,fe80::1", "5432,5433,5432"),
    ],
)
def test_of_several_hosts_the_leader_is_met_and_a_silent_one_left_soon(
    address: str, hosts: str, ports: str | None
) -> None:
    variables = variables_of(address)
    assert (variables["PGHOST"], variables.get("PGPORT")) == (hosts, ports)
    assert LEADER.items() <= variables.items()


def test_what_the_address_says_is_kept() -> None:
    variables = variables_of("postgresql://a,b/erp?target_session_attrs=prefer-standby&connect_timeout=7")
    assert (variables["PGTARGETSESSIONATTRS"], variables["PGCONNECT_TIMEOUT"]) == ("prefer-standby", "7")
    assert server_of("postgresql://a,b:5433/erp", None).environment()["PGHOST"] == "a,b"
    assert list(hosts_of(variables_of("postgresql://a,b:5433/erp"))) == ["a", "b:5433"]
    assert list(hosts_of(variables_of("postgresql:///erp?hostaddr=10.0.0.1,10.0.0.2"))) == ["10.0.0.1", "10.0.0.2"]
    assert LEADER.items() <= variables_of("postgresql:///erp?hostaddr=10.0.0.1,10.0.0.2").items()


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("mysql://a/erp", "must look like postgresql://"),
        ("postgresql://u@/erp?host=a,b,c&port=1,2", "3 hosts and 2 ports"),
        ("postgresql://a:x,b/erp", "a host or port that cannot be read"),
        ("postgresql://[::1,b/erp", "a host or port that cannot be read"),
        ("postgresql://u:pass/word@db/erp", "a / in a password is %2F"),
        ("postgresql://a,b/erp?service=other", "unknown parameters: service"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_sentence(address: str, sentence: str) -> None:
    with pytest.raises(Failure, match=sentence):
        server_of(address, None)
