"""One request to an endpoint, over a connection that is checked where it is made."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from erp_service.events.webhooks.sending import targets
from erp_service.events.webhooks.sending.addresses import Address, Network
from erp_service.events.webhooks.sending.sender import Outcome, Sender
from tests.events.webhooks.receiving import Receiver, Reply, hang_up, receiving

HERE: Sequence[Network] = [ip_network("127.0.0.1")]
LOCAL = ip_address("127.0.0.1")


class Names:
    """A name server: each look-up gets the next of the answers, and the last one again and again."""

    def __init__(self, *answers: Sequence[Address]) -> None:
        self.lookups: list[str] = []
        self._answers = answers

    async def __call__(self, host: str, port: int) -> Sequence[Address]:
        self.lookups.append(host)
        return self._answers[min(len(self.lookups), len(self._answers)) - 1]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


async def post(sender: Sender, url: str, body: bytes = b"{}") -> Outcome:
    async with sender.channel(targets.parse(url)) as channel:
        return await channel.post({"webhook-id": "msg_1"}, body)


async def test_request_as_it_arrives(receiver: Receiver) -> None:
    names = Names([LOCAL])
    receiver.answer = lambda _: Reply(200, {"Set-Cookie": "a=b"}, b"thanks\r\n\x1b[31m\0")
    outcome = await post(Sender(HERE, plain_http=True, resolve=names), receiver.url("shop.example.com", "/a?b=c"))
    assert (outcome.status, outcome.error, outcome.is_delivered) == (200, None, True)
    assert outcome.excerpt == "thanks   [31m"
    (request,) = receiver.requests
    assert request.path == "/a?b=c"
    assert request.headers == {
        "host": f"shop.example.com:{receiver.port}",
        "user-agent": "erp-service",
        "accept": "*/*",
        "content-type": "application/json",
        "content-length": "2",
        "webhook-id": "msg_1",
    }
    assert names.lookups == ["shop.example.com"]


async def test_requests_to_one_endpoint_share_a_connection_and_no_cookie(receiver: Receiver) -> None:
    receiver.answer = lambda _: Reply(200, {"Set-Cookie": "a=b"})
    sender = Sender(HERE, plain_http=True, resolve=Names([LOCAL]))
    async with sender.channel(targets.parse(receiver.url("shop.example.com"))) as channel:
        for _ in range(3):
            assert (await channel.post({}, b"{}")).is_delivered
    assert receiver.connections == 1
    assert not any("cookie" in request.headers for request in receiver.requests)


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "::ffff:127.0.0.1", "fd00:ec2::254"])
async def test_name_of_an_address_inside_is_not_connected_to(receiver: Receiver, address: str) -> None:
    outcome = await post(
        Sender([], plain_http=True, resolve=Names([ip_address(address)])), receiver.url("shop.example.com")
    )
    assert outcome.status is None
    assert outcome.error is not None
    assert address not in outcome.error, "nobody learns what a name leads to"
    assert receiver.connections == 0


async def test_literal_address_inside_is_not_connected_to(receiver: Receiver) -> None:
    assert (await post(Sender([], plain_http=True), receiver.url())).status is None
    assert receiver.connections == 0


async def test_one_address_inside_is_enough_to_refuse_a_name(receiver: Receiver) -> None:
    names = Names([ip_address("8.8.8.8"), LOCAL])
    outcome = await post(Sender([], plain_http=True, resolve=names), receiver.url("shop.example.com"))
    assert (outcome.status, receiver.connections) == (None, 0)


async def test_rebinding_a_name_gains_nothing(receiver: Receiver) -> None:
    """The first answer is checked, and the second, which leads inside, is never asked for."""
    # public by name, and nobody answers there: 127.0.0.2 stands for it, as an allowed network
    public = ip_address("127.0.0.2")
    names = Names([public], [LOCAL])
    sender = Sender([ip_network("127.0.0.2")], plain_http=True, resolve=names)
    outcome = await post(sender, receiver.url("shop.example.com"))
    assert outcome.error == "it cannot be connected to"
    assert names.lookups == ["shop.example.com"], "one look-up for one connection"
    # and the next connection is checked again
    assert "not public" in ((await post(sender, receiver.url("shop.example.com"))).error or "")
    assert receiver.connections == 0


async def test_plain_http_only_within_the_networks_of_the_operator(receiver: Receiver) -> None:
    """Outside, even a public address is refused, whatever its name."""
    outcome = await post(
        Sender(HERE, plain_http=False, resolve=Names([ip_address("8.8.8.8")])), receiver.url("shop.example.com")
    )
    assert "http is used outside" in (outcome.error or "")
    assert (await post(Sender(HERE, plain_http=False, resolve=Names([LOCAL])), receiver.url("shop.example.com"))).status


async def test_redirect_is_not_followed(receiver: Receiver) -> None:
    receiver.answer = lambda _: Reply(307, {"Location": receiver.url(path="/elsewhere")})
    outcome = await post(Sender(HERE, plain_http=True), receiver.url())
    assert (outcome.status, outcome.is_delivered) == (307, False)
    assert "redirects are not followed" in outcome.fault
    assert len(receiver.requests) == 1


async def test_proxies_of_the_environment_are_not_used(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiving() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url(path=""))
        assert (await post(Sender(HERE, plain_http=True), receiver.url())).is_delivered
        assert proxy.connections == 0


async def test_endpoint_that_never_answers_costs_the_time_limit_and_no_more(receiver: Receiver) -> None:
    async def never(_request: object) -> Reply:
        await asyncio.Event().wait()
        return Reply()

    receiver.answer = never
    outcome = await post(Sender(HERE, plain_http=True, seconds=0.2), receiver.url())
    assert outcome.error == "no answer within 0.2 s"


@pytest.mark.parametrize("answer", ["drip", "flood", "no http"])
async def test_answer_that_has_no_end_is_left(answer: str) -> None:
    left = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            if answer == "no http":
                writer.write(b"220 mail.example.com ESMTP\r\n")
            else:
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                writer.write(b"x" if answer == "drip" else b"x" * 65_536)
                await writer.drain()
                await asyncio.sleep(0.01 if answer == "drip" else 0)
        except ConnectionError:
            await hang_up(writer)
            left.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        outcome = await post(Sender(HERE, plain_http=True, seconds=0.5), f"http://127.0.0.1:{port}/")
        await asyncio.wait_for(left.wait(), 20)
    if answer == "flood":
        assert (outcome.status, len(outcome.excerpt)) == (200, 1024)
    else:
        assert outcome.error is not None


async def test_nobody_listening_and_unknown_name_are_told_apart(unused_port: int) -> None:
    async def unknown(host: str, port: int) -> Sequence[Address]:
        raise OSError

    url = f"http://shop.example.com:{unused_port}/"
    assert (await post(Sender(HERE, plain_http=True, resolve=Names([LOCAL])), url)).error == "it cannot be connected to"
    assert (await post(Sender(HERE, plain_http=True, resolve=unknown), url)).error == "its name cannot be resolved"
    assert (await post(Sender(HERE, plain_http=True, resolve=Names([])), url)).error == "its name cannot be resolved"


@pytest.mark.parametrize(
    ("status", "value", "seconds"),
    [
        (429, "17", 17),
        (503, "0", 0),
        (503, "Wed, 21 Oct 2015 07:28:00 GMT", 0),
        (503, "soon", None),
        (503, "-1", None),
        (503, "9" * 400, None),
        (500, "17", None),
    ],
)
async def test_wish_of_the_endpoint(receiver: Receiver, status: int, value: str, seconds: float | None) -> None:
    receiver.answer = lambda _: Reply(status, {"Retry-After": value})
    assert (await post(Sender(HERE, plain_http=True), receiver.url())).retry_after == seconds


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of shop.example.com, signed by itself; with its key in one file."""
    directory = tmp_path_factory.mktemp("certificate")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "shop.example.com")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("shop.example.com")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    made = directory / "certificate.pem"
    made.write_bytes(certificate.public_bytes(Encoding.PEM) + private)
    return made


async def test_certificate_is_that_of_the_name_though_the_address_is_connected_to(certificate: Path) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    trust = ssl.create_default_context(cafile=str(certificate))
    async with receiving(server) as receiver:
        trusting = Sender(HERE, plain_http=False, resolve=Names([LOCAL]), trust=trust)
        assert (await post(trusting, receiver.url("shop.example.com"))).is_delivered
        other = await post(trusting, receiver.url("other.example.com"))
        assert (other.error or "").startswith("its certificate is not trusted: Hostname mismatch")
        stranger = await post(Sender(HERE, plain_http=False, resolve=Names([LOCAL])), receiver.url("shop.example.com"))
        assert (stranger.error or "").startswith("its certificate is not trusted")
        assert len(receiver.requests) == 1
