"""Addresses in libpq's forms; what asyncpg and libpq make of what we give them."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict

from erp_service.db.connections import connect
from erp_service.db.servers.addresses import Address, Host, arguments_of, parse
from erp_service.settings import Settings, SettingsError, describe, load

NAMES = st.one_of(
    st.from_regex(r"[a-z0-9][a-z0-9.-]{0,20}", fullmatch=True),
    st.sampled_from(["::1", "fe80::1", "2001:db8::8:800:200c:417a"]),
    st.from_regex(r"/[a-z0-9/ _.@%-]{0,20}", fullmatch=True),
)
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20)
ADDRESSES = st.builds(
    Address,
    hosts=st.lists(st.builds(Host, NAMES, st.integers(1, 65535)), min_size=1, max_size=4).map(tuple),
    user=TEXTS,
    password=st.none() | TEXTS,
    database=TEXTS,
    target=st.sampled_from([None, "read-write", "prefer-standby"]),
    options=st.sampled_from([(), (("sslmode", "verify-full"), ("sslrootcert", "/etc/a b.pem"))]),
)


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("postgresql://u:p@db/erp", [("db", 5432)]),
        ("postgresql://u:p@db:6000/erp", [("db", 6000)]),
        ("postgres://u:p@a,b:5433,c/erp?target_session_attrs=read-write", [("a", 5432), ("b", 5433), ("c", 5432)]),
        ("postgresql://u:p@[::1]:5433,[fe80::1]/erp", [("::1", 5433), ("fe80::1", 5432)]),
        ("postgresql://u:p@/erp?host=a,b&port=1,2", [("a", 1), ("b", 2)]),
        ("postgresql://u:p@/erp?host=a,b&port=7", [("a", 7), ("b", 7)]),
        ("postgresql://u:p@/erp?host=/var/run/postgresql", [("/var/run/postgresql", 5432)]),
        ("postgresql://u:p@/erp?host=%2Fa%20b,/c&port=1", [("/a b", 1), ("/c", 1)]),
        ("postgresql://", [("", 5432)]),
    ],
)
def test_hosts_of_an_address(url: str, hosts: list[tuple[str, int]]) -> None:
    assert [(host.name, host.port) for host in parse(url).hosts] == hosts


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:secret@db/erp",
        "db/erp",
        "postgresql://u:secret@a,b/erp?port=1,2,3",
        "postgresql://u:secret@a:0/erp",
        "postgresql://u:secret@a:65536/erp",
        "postgresql://u:secret@/erp?host=a&port=x",
        "postgresql://u:secret@a/erp?target_session_attrs=best",
    ],
)
def test_fault_of_an_address_is_said_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match=r".*\.$") as failed:
        parse(url)
    assert "secret" not in str(failed.value)
    with pytest.raises(SettingsError, match="ERP_DATABASE_URL cannot be used") as refused:
        load({"ERP_DATABASE_URL": url})
    assert "secret" not in str(refused.value)


@given(ADDRESSES)
def test_address_is_the_same_to_us_and_to_libpq(address: Address) -> None:
    url = address.url(*address.hosts)
    assert parse(url) == address
    libpq = conninfo_to_dict(url)
    assert libpq["host"] == ",".join(host.name for host in address.hosts)
    assert libpq["port"] == ",".join(str(host.port) for host in address.hosts)
    assert libpq["user"] == address.user
    assert libpq.get("password") == address.password
    assert libpq["dbname"] == address.database
    assert libpq.get("target_session_attrs") == address.target


@given(ADDRESSES)
def test_driver_gets_one_host_and_only_what_it_knows(address: Address) -> None:
    host = address.hosts[-1]
    arguments = arguments_of(
        msgspec.structs.replace(address, options=(*address.options, ("connect_timeout", "3"))), host
    )
    assert (arguments["host"], arguments["port"]) == ([host.name], [host.port])
    # libpq reads the rest as asyncpg does
    rest = conninfo_to_dict(arguments["dsn"])
    assert rest.keys() <= {"user", "password", "dbname", "sslmode", "sslrootcert"}
    assert (rest["user"], rest.get("password"), rest["dbname"]) == (address.user, address.password, address.database)


async def test_server_is_reached_by_its_socket(settings: Settings) -> None:
    host = parse(settings.database_url).hosts[0]
    assert host.name.startswith("/")
    # an address that libpq takes, with a parameter that the server would refuse
    connection = await connect(f"{settings.database_url}&connect_timeout=5", name="test")
    assert await connection.fetchval("select current_user") == "erp_app"
    await connection.close()


def test_addresses_with_several_hosts_are_shown_without_their_passwords() -> None:
    url = "postgresql://u:se@cret@a,b:5433/erp?password=hidden&sslmode=require"
    shown = {one.variable: one.value for one in describe(Settings(database_url=url))}["ERP_DATABASE_URL"]
    assert shown == "postgresql://u:********@a,b:5433/erp?password=********&sslmode=require"


@pytest.mark.parametrize("target", ["any", "standby", "prefer-standby", "read-only"])
def test_address_of_the_primary_cannot_mean_a_standby(target: str) -> None:
    with pytest.raises(SettingsError, match="must lead to the server that takes writes"):
        load({"ERP_DATABASE_URL": f"postgresql://u@a,b/erp?target_session_attrs={target}"})
    replica = f"postgresql://u@a,b/erp?target_session_attrs={target}"
    assert load({"ERP_DATABASE_URL": "postgresql://u@a/erp", "ERP_REPLICA_URL": replica}).replica_url == replica
