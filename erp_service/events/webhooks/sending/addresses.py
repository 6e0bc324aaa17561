"""Which network addresses a webhook may be sent to: public ones, and those that the operator has allowed.

An ADMIN chooses the address of a webhook, and the service that calls it stands inside the operator's network: without
this, a webhook could reach the database, the host's own ports, or the metadata service of a cloud (CWE-918)."""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# IANA's registry of special-purpose addresses, with multicast and what is reserved. Here and not `is_global`, whose
# answer differs between the patch releases of Python. 168.63.129.16 is Azure's, for agents of the host.
_NOT_PUBLIC = tuple(
    map(
        ip_network,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",
            "127.0.0.0/8",
            "168.63.129.16/32",
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.31.196.0/24",
            "192.52.193.0/24",
            "192.88.99.0/24",
            "192.168.0.0/16",
            "192.175.48.0/24",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",
            "240.0.0.0/4",
            # of the global unicast addresses: protocol assignments with Teredo, documentation, 6to4
            "2001::/23",
            "2001:db8::/32",
            "2002::/16",
            "2620:4f:8000::/48",
            "3fff::/20",
        ),
    )
)
_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")


def read_networks(text: str) -> tuple[Network, ...]:
    """Addresses or networks, separated by commas. Raises ValueError for what is none."""
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


def is_within(address: Address, networks: Iterable[Network]) -> bool:
    """Whether the address that is really reached lies in one of the networks."""
    reached = _reached(address)
    return any(reached in network for network in networks)


def is_public(address: Address) -> bool:
    """Whether it is an address of the public internet, also of the one that it leads to."""
    reached = _reached(address)
    if isinstance(reached, IPv6Address) and reached not in _UNICAST:
        return False
    return not any(reached in network for network in _NOT_PUBLIC)


def may_reach(address: Address, allowed: Sequence[Network]) -> bool:
    """Whether it is public, or in one of the networks that the operator allows."""
    return is_public(address) or is_within(address, allowed)


def parse(text: str) -> Address | None:
    """None for what is no address, such as a name."""
    try:
        return ip_address(text)
    except ValueError:
        return None


def _reached(address: Address) -> Address:
    """What a packet to it reaches: the IPv4 address inside one of IPv6, if the host or a translator unpacks it (RFC
    4291, 2.5.5.2; RFC 6052, 2.1). 6to4 and Teredo are refused as a whole. A scope changes nothing."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        address = IPv6Address(int(address))
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address
