"""Which addresses may be sent to, and how an address is read."""

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erp_service.events.webhooks.sending import targets
from erp_service.events.webhooks.sending.addresses import is_public, is_within, may_reach, read_networks

REFUSED = """
0.0.0.0 10.0.0.1 100.64.0.1 100.100.100.200 127.0.0.1 127.255.255.254 169.254.169.254 172.16.0.1 172.31.255.255
168.63.129.16 192.0.0.192 192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1
239.255.255.250 240.0.0.1 255.255.255.255
:: ::1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:169.254.169.254 ::ffff:0:127.0.0.1 64:ff9b::127.0.0.1 64:ff9b::10.0.0.1
64:ff9b:1::8.8.8.8 100::1 2001::1 2001:db8::1 2002:7f00:1:: 2002:808:808:: 3fff::1 5f00::1 fc00::1 fd00:ec2::254
fe80::1 fe80::1%eth0 fec0::1 ff02::1
"""
PUBLIC = "8.8.8.8 1.1.1.1 172.32.0.1 2606:4700:4700::1111 2a00:1450:4001:82f::200e ::ffff:8.8.8.8 64:ff9b::8.8.8.8"


@pytest.mark.parametrize("address", REFUSED.split())
def test_address_inside_the_house_of_the_operator_is_refused(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", PUBLIC.split())
def test_public_address_is_allowed(address: str) -> None:
    assert is_public(ip_address(address))


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_judged_alike_in_each_form_that_reaches_it(address: IPv4Address) -> None:
    mapped = IPv6Address(f"::ffff:{address}")
    translated = IPv6Address(f"64:ff9b::{address}")
    assert is_public(mapped) == is_public(translated) == is_public(address)


@given(st.ip_addresses(v=4))
def test_no_form_with_an_ipv4_address_inside_is_public_unless_that_is(address: IPv4Address) -> None:
    packed = f"{int(address) >> 16:x}:{int(address) & 0xFFFF:x}"
    for form in (f"::{address}", f"::ffff:0:{address}", f"64:ff9b:1::{address}", f"2002:{packed}::", f"2001::{packed}"):
        assert not is_public(IPv6Address(form)), form


@given(st.ip_addresses())
def test_nothing_is_public_that_the_standard_library_knows_as_something_else(
    address: IPv4Address | IPv6Address,
) -> None:
    inside = isinstance(address, IPv6Address) and (address.ipv4_mapped or int(address) >> 32 == 0x64FF9B << 64)
    if is_public(address) and not inside:
        assert address.is_global
        assert not any((address.is_private, address.is_multicast, address.is_reserved, address.is_unspecified))
        assert not any((address.is_loopback, address.is_link_local))


@given(st.ip_addresses())
def test_what_the_operator_allows_is_allowed_and_nothing_beside_it(address: IPv4Address | IPv6Address) -> None:
    networks = read_networks("10.20.0.0/16, fd12::/32, 127.0.0.1")
    assert may_reach(address, networks) == (is_public(address) or is_within(address, networks))
    assert may_reach(address, ()) == is_public(address)


def test_network_that_is_allowed_counts_for_the_forms_of_its_addresses() -> None:
    networks = read_networks("10.20.0.0/16")
    assert may_reach(ip_address("::ffff:10.20.0.7"), networks)
    assert not may_reach(ip_address("::ffff:10.21.0.7"), networks)


@pytest.mark.parametrize(
    ("url", "spelling"),
    [
        ("https://Shop.Example.com", "https://shop.example.com/"),
        ("HTTPS://shop.example.com:443/a?b=%20c", "https://shop.example.com/a?b=%20c"),
        ("https://shop.example.com?x", "https://shop.example.com/?x"),
        ("https://shop.example.com:8443/Hook", "https://shop.example.com:8443/Hook"),
        ("http://shop.example.com:80/", "http://shop.example.com/"),
        ("https://[2606:4700:0:0::1]:443/", "https://[2606:4700::1]/"),
        ("https://8.8.8.8/", "https://8.8.8.8/"),
        ("https://xn--bcher-kva.example/", "https://xn--bcher-kva.example/"),
        ("https://my_receiver.example.com/", "https://my_receiver.example.com/"),
    ],
)
def test_address_has_one_spelling(url: str, spelling: str) -> None:
    assert str(targets.parse(url)) == spelling
    assert str(targets.parse(spelling)) == spelling


@pytest.mark.parametrize(
    "url",
    [
        "",
        "shop.example.com",
        "ftp://shop.example.com/",
        "file:///etc/passwd",
        "https://",
        "https:///path",
        "https://user:password@shop.example.com/",
        "https://8.8.8.8@127.0.0.1/",
        "https://shop.example.com/#fragment",
        "https://shop.example.com\\@127.0.0.1/",
        "https://shop.example.com/a b",
        "https://shop.example.com/a\r\nX-Evil: 1",
        "https://bücher.example/",
        "https://shop.example.com:0/",
        "https://shop.example.com:25/",
        "https://shop.example.com:65536/",
        "https://shop.example.com./",
        "https://shop..example.com/",
        "https://-shop.example.com/",
        "https://127.1/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0177.0.0.1/",
        "https://127.0.0.0x1/",
        "https://[::1/",
        "https://[fe80::1%25eth0]/",
        "https://[::ffff:127.0.0.1].example.com/",
        "https://" + "a" * 64 + ".example.com/",
        "https://shop.example.com/" + "a" * 2000,
        "unix:/run/postgresql",
    ],
)
def test_address_that_could_be_read_in_two_ways_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        targets.parse(url)


@given(st.text(alphabet=st.characters(codec="ascii"), max_size=60))
def test_whatever_is_read_is_read_the_same_again(rest: str) -> None:
    try:
        target = targets.parse(f"https://{rest}")
    except ValueError:
        return
    assert targets.parse(str(target)) == target
    assert not {" ", "\r", "\n", "\\", "@", "#"} & set(target.authority)


@pytest.mark.parametrize(
    ("url", "networks", "plain_http", "works"),
    [
        ("https://shop.example.com/", "", False, True),
        ("http://shop.example.com/", "", False, False),
        ("http://shop.example.com/", "", True, True),
        # which address the name has is known when it is connected to
        ("http://shop.example.com/", "10.0.0.0/8", False, True),
        ("http://10.1.2.3/", "10.0.0.0/8", False, True),
        ("http://8.8.8.8/", "10.0.0.0/8", False, False),
        ("https://10.1.2.3/", "", True, False),
        ("https://127.0.0.1/", "", False, False),
        ("https://[::ffff:10.1.2.3]/", "10.0.0.0/8", False, True),
    ],
)
def test_what_can_be_said_of_an_address_when_it_is_written(
    url: str, networks: str, plain_http: bool, works: bool
) -> None:
    fault = targets.fault(targets.parse(url), read_networks(networks), plain_http=plain_http)
    assert (fault is None) == works
