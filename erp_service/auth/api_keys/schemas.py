"""The bodies of requests and responses about API keys."""

from datetime import datetime
from ipaddress import IPv6Network, ip_network
from typing import Annotated

import msgspec
from msgspec import Meta

from erp_service.access.keys import Network
from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.auth.schemas import Redacted, UserOut
from erp_service.db.pagination import Page
from erp_service.texts import Label, Text

MOST_NETWORKS = 50
_MAPPED_BITS = 96  # of an IPv6 address before the IPv4 address that is mapped into it (RFC 4291, 2.5.5.2)


class KeyName(Label):
    longest = 100


def parse_network(text: str) -> Network:
    """A network in CIDR notation, or a single address. Raises ValueError that says what is wrong."""
    try:
        network = ip_network(text)
    except ValueError as exc:
        try:
            nearest = ip_network(text, strict=False)
        except ValueError:
            raise ValueError("must be a network in CIDR notation, such as 203.0.113.0/24 or 2001:db8::/48") from exc
        raise ValueError(f"has bits beyond its prefix: did you mean {nearest}?") from exc
    # requests over IPv4 are compared as IPv4, in whichever form their address came
    if isinstance(network, IPv6Network) and (mapped := network.network_address.ipv4_mapped) is not None:
        if network.prefixlen < _MAPPED_BITS:
            raise ValueError("must be written as a network of IPv4")
        return ip_network((int(mapped), network.prefixlen - _MAPPED_BITS))
    return network


class NetworkText(Text):
    """A network in CIDR notation, or an address, in its shortest form."""

    longest = 50

    @staticmethod
    def checked(text: str) -> str:
        return str(parse_network(text))


class NewApiKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a key is for, and how far it reaches."""

    name: Annotated[KeyName, Meta(description="what uses it, and where", examples=["web shop, production"])]
    role: Annotated[Role, Meta(description="no higher than yours; the lowest that is enough")]
    scopes: Annotated[
        list[Scope],
        Meta(
            min_length=1,
            max_length=len(Scope),
            description="what it may be used for: a request needs the scope that its endpoint names, and the role."
            " `write` does not include `read`",
            examples=[["items:read", "stock:read", "stock:write"]],
        ),
    ]
    expires_at: Annotated[
        Annotated[datetime, Meta(tz=True)] | None,
        Meta(description="from then on it is refused: within five years; null or left out: never"),
    ] = None
    networks: Annotated[
        Annotated[list[NetworkText], Meta(min_length=1, max_length=MOST_NETWORKS)] | None,
        Meta(
            description="the only networks that it may be used from, in CIDR notation; null or left out: any",
            examples=[["203.0.113.0/24", "2001:db8:7::/48"]],
        ),
    ] = None


class ApiKeyOut(msgspec.Struct, frozen=True, kw_only=True):
    """A key, without the key itself."""

    id: Annotated[int, Meta(description="the id")]
    user_id: Annotated[int, Meta(description="who made it, and for whom it acts: with no more than their present role")]
    name: Annotated[str, Meta(description="what uses it, and where")]
    role: Annotated[Role, Meta(description="the most that it may do; no more than the present role of its maker")]
    scopes: Annotated[list[Scope], Meta(description="what it may be used for")]
    networks: Annotated[
        list[str] | None, Meta(description="the only networks that it may be used from, in CIDR notation; null: any")
    ]
    hint: Annotated[str, Meta(description="the first characters of the key", examples=["erp_3fK9"])]
    expires_at: Annotated[datetime | None, Meta(description="from then on it is refused; null: never")]
    created_at: Annotated[datetime, Meta(description="when it was made")]
    last_used_at: Annotated[
        datetime | None, Meta(description="the minute of its last use, up to two minutes late; null before the first")
    ]
    revoked_at: Annotated[datetime | None, Meta(description="when it was revoked; null if it was not")]
    revoked_by: Annotated[int | None, Meta(description="who revoked it; null if nobody did")]
    is_active: Annotated[bool, Meta(description="false: it was revoked, or has expired")]


class CreatedApiKey(ApiKeyOut, frozen=True, kw_only=True):
    """The only answer that holds the key."""

    key: Annotated[str, Meta(description="for `Authorization: Bearer ...`; it is shown once, and never again")]

    __repr__ = Redacted.__repr__


class ApiKeyPage(Page[ApiKeyOut]):
    """One page of API keys."""

    items: Annotated[list[ApiKeyOut], Meta(description="keys, newest first")]


class OwnKey(msgspec.Struct, frozen=True):
    """The key that a request came with."""

    id: Annotated[int, Meta(description="the id")]
    name: Annotated[str, Meta(description="what uses it, and where")]
    role: Annotated[Role, Meta(description="what it may do now: the lesser of its own role and that of its maker")]
    scopes: Annotated[list[Scope], Meta(description="what it may be used for")]
    expires_at: Annotated[datetime | None, Meta(description="from then on it is refused; null: never")]


class ProfileOut(UserOut, frozen=True):
    """The user whom a request acts for, and by which key, if it came with one."""

    api_key: Annotated[
        OwnKey | None, Meta(description="the API key of this request; null for a request of the user in person")
    ]
