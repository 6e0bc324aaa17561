"""The address of a webhook, taken apart once: what is checked is what is connected to, since nothing reads it again."""

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from erp_service.events.webhooks.sending import addresses
from erp_service.events.webhooks.sending.addresses import Network

LONGEST = 2000

# printable ASCII; no user, no fragment, no backslash, which browsers read as a slash
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,253})(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<target>[/?][!$-;=?-\[\]_a-z~%]*)?",
    re.ASCII | re.IGNORECASE,
)
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
_DEFAULT_PORTS = {"https": 443, "http": 80}
_FIRST_FREE_PORT = 1024


class Target(NamedTuple):
    """`host` is a name or an address without brackets, in lower case; `target` is path and query."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def is_encrypted(self) -> bool:
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """For the header `Host`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"


def parse(url: str) -> Target:
    """Raises ValueError that says what is wrong with it."""
    if len(url) > LONGEST:
        raise ValueError(f"is longer than {LONGEST} characters")
    if "@" in url.partition("//")[2].partition("/")[0]:
        raise ValueError("must not hold a user or a password: the signature says who sends")
    if "#" in url:
        raise ValueError("must have no fragment")
    if not url.isascii():
        raise ValueError("must be ASCII: write the host in its xn-- form, and the path percent-encoded")
    found = _URL.fullmatch(url)
    if found is None:
        raise ValueError("must be https:// with a host, perhaps a port, and a path")
    scheme = found["scheme"].lower()
    port = int(found["port"] or _DEFAULT_PORTS[scheme])
    # mail, files and the like, which a request could be made to speak to, have the low ports
    if not (port in _DEFAULT_PORTS.values() or _FIRST_FREE_PORT <= port <= 65_535):
        raise ValueError("must have the port 443, 80, or one from 1024 on")
    target = found["target"] or "/"
    return Target(scheme, _host(found["host"].lower()), port, target if target[0] == "/" else f"/{target}")


def fault(target: Target, allowed: Sequence[Network], *, plain_http: bool) -> str | None:
    """Why nothing can be sent there, as far as that can be said without looking the name up.

    `plain_http` is whether http is allowed everywhere, as in development; else it is in the networks of the operator,
    of which an address is known when it is connected to."""
    if not (target.is_encrypted or plain_http or allowed):
        return "must begin with https://"
    address = addresses.parse(target.host)
    if address is None:
        return None
    if not addresses.may_reach(address, allowed):
        return "is not a public address; the operator allows others in ERP_WEBHOOK_NETWORKS"
    if not (target.is_encrypted or plain_http or addresses.is_within(address, allowed)):
        return "must begin with https://"
    return None


def _host(text: str) -> str:
    if text.startswith("["):
        try:
            return str(IPv6Address(text[1:-1]))
        except ValueError:
            raise ValueError("has a host in brackets that is no IPv6 address") from None
    labels = text.split(".")
    # getaddrinfo takes 127.1, 0x7f000001 and 2130706433 for addresses, as inet_aton did
    if labels[-1].isdecimal() or labels[-1].startswith("0x"):
        try:
            return str(IPv4Address(text))
        except ValueError:
            raise ValueError("has a host that is no IPv4 address: write four numbers") from None
    if not all(map(_LABEL.fullmatch, labels)):
        raise ValueError("has a host that is no name of the DNS")
    return text
