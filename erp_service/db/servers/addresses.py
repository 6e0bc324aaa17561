"""Addresses of Postgres, in the forms of libpq: one host or several, of which one leads.

    postgresql://user:password@host:5432/db
    postgresql://user:password@a,b:5433,c/db?target_session_attrs=read-write
    postgresql://user@/db?host=/socket/dir

https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING"""

import re
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode

import msgspec

_TARGETS = ("any", "read-write", "read-only", "primary", "standby", "prefer-standby")
_LEADER_TARGETS = (None, "read-write", "primary")

_PORT = 5432
_LOCAL = ""  # libpq's default host: a socket in the default directory

# scheme, user and password, hosts, path, query. Not by urllib: it takes `a:1,b:2` for one host with an impossible port.
_URL = re.compile(r"(?:postgresql|postgres)://(?:([^@/?#]*)@)?([^@/?#]*)(?:/([^?#]*))?(?:\?([^#]*))?", re.ASCII)
# an IPv6 address stands in brackets
_HOST = re.compile(r"(?:\[([^\]]*)\]|([^:\[\]]*))(?::(\d+)?)?", re.ASCII)


class Host(msgspec.Struct, frozen=True):
    """One server: a name, an IP address or the directory of a socket; and its port."""

    name: str
    port: int

    def __str__(self) -> str:
        return f"{self.name or 'local'}:{self.port}"


class Address(msgspec.Struct, frozen=True):
    """`target` is libpq's target_session_attrs; `options` are the other parameters, such as sslmode."""

    hosts: tuple[Host, ...]
    user: str | None
    password: str | None
    database: str | None
    target: str | None
    options: tuple[tuple[str, str], ...]

    def url(self, *hosts: Host) -> str:
        """The address with these hosts in place of its own, as libpq reads it."""
        given = {"user": self.user, "password": self.password, "target_session_attrs": self.target}
        if any(host.name != _LOCAL for host in hosts):
            given["host"] = ",".join(host.name for host in hosts)
        if hosts:
            given["port"] = ",".join(str(host.port) for host in hosts)
        query = [(name, value) for name, value in given.items() if value is not None]
        parameters = urlencode([*query, *self.options], quote_via=quote)
        return f"postgresql:///{quote(self.database or '', safe='')}?{parameters}"


def parse(url: str, *, leader: bool = False) -> Address:
    """With `leader` the address must mean the server that takes writes. Raises ValueError with a sentence that quotes
    no password."""
    if (match := _URL.fullmatch(url)) is None:
        raise ValueError("An address of Postgres must look like postgresql://user:password@host:5432/db.")
    login, hosts, path, query = (part or "" for part in match.groups())
    options = dict(parse_qsl(query, keep_blank_values=True))
    user, _, password = login.partition(":")
    target = options.pop("target_session_attrs", None)
    if target is not None and target not in _TARGETS:
        raise ValueError(f"target_session_attrs must be one of {', '.join(_TARGETS)}.")
    if leader and target not in _LEADER_TARGETS:
        raise ValueError("It must lead to the server that takes writes: target_session_attrs=read-write, or none.")
    return Address(
        hosts=_hosts(options.pop("host", None) or unquote(hosts), options.pop("port", "")),
        user=unquote(user) or options.pop("user", None),
        password=unquote(password) or options.pop("password", None),
        database=unquote(path) or options.pop("dbname", None) or None,
        target=target,
        options=tuple(options.items()),
    )


def arguments_of(address: Address, host: Host) -> dict[str, Any]:
    """The arguments of `asyncpg.connect` for one of the hosts; which one leads is not asked."""
    known = tuple((name, value) for name, value in address.options if name in _UNDERSTOOD)
    rest = msgspec.structs.replace(address, target=None, options=known)
    # beside the address, since asyncpg does not take a socket's directory with a comma, or an IPv6 address, inside it
    return {"dsn": rest.url(), **({"host": [host.name], "port": [host.port]} if host.name else {"port": host.port})}


# by asyncpg; it would send others, such as libpq's connect_timeout, to the server, which refuses them
_UNDERSTOOD = frozenset({"sslmode", "sslcert", "sslkey", "sslrootcert", "sslcrl", "sslpassword", "passfile"})


def _hosts(names: str, ports: str) -> tuple[Host, ...]:
    """libpq's rule: as many ports as hosts, or one for all of them."""
    listed = ports.split(",") if ports else []
    hosts = names.split(",")
    if len(listed) not in (0, 1, len(hosts)):
        raise ValueError(f"The address has {len(hosts)} hosts and {len(listed)} ports: give one port, or one for each.")
    if len(listed) == 1:
        listed *= len(hosts)
    return tuple(_host(name, listed[n] if listed else "") for n, name in enumerate(hosts))


def _host(name: str, port: str) -> Host:
    if name.startswith("/"):
        return Host(name, _number(port))
    if (match := _HOST.fullmatch(name)) is None:
        # an IPv6 address as the parameter `host` has it
        return Host(name, _number(port))
    bracketed, plain, own_port = match.groups()
    return Host(bracketed or plain or _LOCAL, _number(port or own_port or ""))


def _number(port: str) -> int:
    if not port:
        return _PORT
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError("A port of the address must be a number from 1 to 65535.")
    return int(port)
