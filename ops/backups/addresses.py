"""The addresses of databases, in the forms that libpq knows, as its environment variables."""

import re
from collections.abc import Iterator, Mapping
from urllib.parse import parse_qsl, unquote

# user and password end at the first @ before any slash, as libpq reads them; urllib's urlsplit refuses a second host
_URL = re.compile(
    r"postgres(?:ql)?://(?:(?P<user>[^:@/]*)(?::(?P<password>[^@/]*))?@)?"
    r"(?P<hosts>[^/?]*)(?:/(?P<database>[^?]*))?(?:\?(?P<parameters>.*))?"
)
_HOST = re.compile(r"(?P<name>\[[^\[\]]*\]|[^:\[\]]*)(?::(?P<port>\d*))?")
_DEFAULT_PORT = "5432"

# parameters of a connection URL, and libpq's environment variables for them
_VARIABLES = {
    "host": "PGHOST",
    "hostaddr": "PGHOSTADDR",
    "port": "PGPORT",
    "user": "PGUSER",
    "password": "PGPASSWORD",
    "dbname": "PGDATABASE",
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "options": "PGOPTIONS",
    "connect_timeout": "PGCONNECT_TIMEOUT",
    "application_name": "PGAPPNAME",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
}

# Of several hosts one leads. `primary`, not `read-write`: a leader that was made read only is backed up too.
# The time, in seconds, is for each host: one that is silent holds up every connection for so long.
_SEVERAL_HOSTS = {"PGTARGETSESSIONATTRS": "primary", "PGCONNECT_TIMEOUT": "3"}


def variables_of(address: str) -> dict[str, str]:
    """Of `postgresql://user:password@host:port/db`, also with several hosts (`a,b:5433,[::1]`), or
    `?host=a,b&port=1,2`, where a host may be a socket's directory. Raises ValueError, with a sentence."""
    match = _URL.fullmatch(address)
    if match is None:
        raise ValueError("the database's address must look like postgresql://user:password@host:port/db")
    hosts, ports = _hosts(match["hosts"])
    parameters = {
        "host": hosts,
        "port": ports,
        "user": unquote(match["user"] or ""),
        "password": unquote(match["password"] or ""),
        "dbname": unquote(match["database"] or ""),
        **dict(parse_qsl(match["parameters"] or "")),
    }
    if unknown := parameters.keys() - _VARIABLES.keys():
        raise ValueError(f"the database's address has unknown parameters: {', '.join(sorted(unknown))}")
    places = parameters["host"] or parameters.get("hostaddr", "")
    several = _require_a_port_for_each(places.split(","), parameters["port"].split(","))
    given = {_VARIABLES[name]: value for name, value in parameters.items() if value}
    return {**_SEVERAL_HOSTS, **given} if several else given


def _hosts(text: str) -> tuple[str, str]:
    """The names and the ports of `a,b:5433,[::1]`, each list with commas."""
    matches = [_HOST.fullmatch(host) for host in text.split(",")]
    names = [unquote(match["name"].strip("[]")) for match in matches if match]
    if len(names) < len(matches):
        # without the text, in which a part of the password may stand
        raise ValueError("the database's address has a host or port that cannot be read (a / in a password is %2F)")
    ports = [match["port"] or "" for match in matches if match]
    # an empty one in a list is libpq's default; without any, PGPORT is not needed
    return ",".join(names), ",".join(port or _DEFAULT_PORT for port in ports) if any(ports) else ""


def _require_a_port_for_each(hosts: list[str], ports: list[str]) -> bool:
    """Whether there are several hosts."""
    if len(ports) not in (1, len(hosts)):
        raise ValueError(
            f"the database's address has {len(hosts)} hosts and {len(ports)} ports: give one, or one for each"
        )
    return len(hosts) > 1


def hosts_of(variables: Mapping[str, str]) -> Iterator[str]:
    """The hosts, for people: `db1`, `db2:5433`."""
    hosts = (variables.get("PGHOST") or variables.get("PGHOSTADDR", "")).split(",")
    ports = variables.get("PGPORT", "").split(",")
    for number, host in enumerate(hosts):
        port = ports[number % len(ports)]
        yield host if port in ("", _DEFAULT_PORT) else f"{host}:{port}"
