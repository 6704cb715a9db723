from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.agents.egress import EgressRefused, host_matches, is_public
from apps.agents.tools import client
from apps.agents.tools.base import AmbiguousOutcome, DefiniteFailure, StepError
from apps.agents.tools.client import fetch
from mirrorneuron.config import config
from tests.agents.tools.conftest import Site


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.100.100.200", "0.0.0.0",
        "224.0.0.1", "255.255.255.255", "168.63.129.16", "192.0.0.192", "198.18.0.1", "240.0.0.1",
        "::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "::ffff:127.0.0.1",
        "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::", 
        "2002:a00:1::", "2001:db8::1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_the_open_internet(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.215.14", "2606:4700::1111", "64:ff9b::101:101"])
def test_addresses_of_the_open_internet(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@given(st.ip_addresses(network="10.0.0.0/8"))
def test_no_wrapping_makes_a_private_address_public(inner: ipaddress.IPv4Address) -> None:
    number = int(inner)
    for wrapped in (0xFFFF << 32 | number, 0x64FF9B << 96 | number, 0x2002 << 112 | number << 80, number):
        assert not is_public(ipaddress.IPv6Address(wrapped))


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/", "http://localhost/", "http://[::1]/", "http://[::ffff:127.0.0.1]/",
        "http://169.254.169.254/latest/meta-data", "http://2130706433/", "http://0x7f.1/", "http://127.1/",
        "http://0/", "http://10.0.0.8:8080/x",
    ],
)  # fmt: skip
def test_private_targets_are_refused(url: str) -> None:
    with pytest.raises(EgressRefused) as caught:
        fetch("GET", url, seconds=5)
    assert caught.value.permanent


@pytest.mark.parametrize(
    "url",
    [
        "ftp://shop.example/x",
        "file:///etc/passwd",
        "gopher://x/",
        "http://",
        "//shop.example",
        "x",
        "http://a:b@c.de/",
    ],
)
def test_other_schemes_and_credentials_in_urls_are_refused(url: str) -> None:
    with pytest.raises(StepError) as caught:
        fetch("GET", url, seconds=5)
    assert caught.value.permanent
    assert caught.value.code == "bad_url"


def test_a_name_that_resolves_to_a_private_address_is_refused(names: dict[str, list[str]]) -> None:
    names["inside.example"] = ["10.0.0.1"]
    with pytest.raises(EgressRefused, match="inside"):
        fetch("GET", "http://inside.example/", seconds=5)


def test_the_checked_address_is_the_one_connected_to(site: Site, names: dict[str, list[str]]) -> None:
    site.answers["/"] = (200, {}, b"hello")
    names["shop.example"] = ["127.0.0.1"]
    assert fetch("GET", f"http://shop.example:{site.port}/", seconds=5).body == b"hello"
    assert names["asked"] == ["shop.example"]  # once: there is no second answer to rebind
    assert site.requests[0]["headers"]["Host"] == f"shop.example:{site.port}"


@pytest.mark.parametrize(
    "entry", ["127.0.0.1", "127.0.0.0/8", "shop.example", "*.example", "10.0.0.1,127.0.0.1"]
)
def test_an_operator_can_allow_a_host_or_a_network(
    entry: str, site: Site, names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config(), "egress_allow", entry)
    site.answers["/"] = (200, {}, b"hello")
    names["shop.example"] = ["127.0.0.1"]
    assert fetch("GET", f"http://shop.example:{site.port}/", seconds=5).status == 200


def test_allowing_one_host_allows_no_other(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config(), "egress_allow", "shop.example")
    with pytest.raises(EgressRefused):
        fetch("GET", site.url, seconds=5)


class TestRedirects:
    def test_are_followed_for_reads(self, site: Site) -> None:
        site.answers |= {"/a": (302, {"Location": "/b"}, b""), "/b": (200, {}, b"there")}
        assert fetch("GET", site.url + "/a", seconds=5, max_redirects=5).body == b"there"

    def test_to_a_private_address_are_refused(self, site: Site) -> None:
        site.answers["/a"] = (302, {"Location": "http://169.254.169.254/"}, b"")
        with pytest.raises(EgressRefused):
            fetch("GET", site.url + "/a", seconds=5, max_redirects=5)

    def test_are_counted(self, site: Site) -> None:
        site.answers["/a"] = (302, {"Location": "/a"}, b"")
        with pytest.raises(StepError, match="more than 5 times"):
            fetch("GET", site.url + "/a", seconds=5, max_redirects=5)
        assert len(site.requests) == 6

    def test_of_a_write_are_not_followed(self, site: Site) -> None:
        site.answers["/a"] = (307, {"Location": "/b"}, b"")
        assert fetch("POST", site.url + "/a", content=b"x", seconds=5, max_redirects=5).status == 307
        assert len(site.requests) == 1

    def test_to_another_host_lose_their_headers(self, site: Site, names: dict[str, list[str]]) -> None:
        names["other.example"] = ["127.0.0.1"]
        site.answers |= {
            "/a": (302, {"Location": f"http://other.example:{site.port}/b"}, b""),
            "/b": (200, {}, b""),
        }
        headers = {"Authorization": "Bearer x", "X-Api-Key": "y", "Accept": "text/plain"}
        fetch("GET", site.url + "/a", headers=headers, seconds=5, max_redirects=5)
        assert "Authorization" not in site.requests[1]["headers"]
        assert "X-Api-Key" not in site.requests[1]["headers"]
        assert site.requests[1]["headers"]["Accept"] == "text/plain"

    def test_of_a_secret_leave_its_hosts_never(self, site: Site, names: dict[str, list[str]]) -> None:
        names["other.example"] = ["127.0.0.1"]
        site.answers["/a"] = (302, {"Location": f"http://other.example:{site.port}/b"}, b"")
        with pytest.raises(EgressRefused, match="not among the hosts"):
            fetch("GET", site.url + "/a", seconds=5, max_redirects=5, hosts=["127.0.0.1"])
        assert len(site.requests) == 1


def test_a_secret_does_not_travel_unencrypted(names: dict[str, list[str]]) -> None:
    names["shop.example"] = ["93.184.215.14"]
    with pytest.raises(EgressRefused, match="unencrypted"):
        fetch("GET", "http://shop.example/", seconds=5, hosts=["shop.example"])


def test_nor_to_the_second_address_of_a_host(
    names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The private one may not answer, and then the public one would get the secret."""
    monkeypatch.setattr(config(), "egress_allow", "shop.example")
    names["shop.example"] = ["127.0.0.1", "93.184.215.14"]
    with pytest.raises(EgressRefused, match="unencrypted"):
        fetch("GET", "http://shop.example:1/", seconds=1, hosts=["shop.example"])


class TestFailures:
    def test_no_such_name_is_definite(self, names: dict[str, list[str]]) -> None:
        with pytest.raises(DefiniteFailure, match="no host"):
            fetch("POST", "http://nowhere.example/", seconds=5)

    def test_refused_connection_is_definite(self, site: Site) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
        with pytest.raises(DefiniteFailure, match="No connection"):
            fetch("POST", f"http://127.0.0.1:{port}/", seconds=5)

    def test_a_certificate_nobody_signed_is_definite(self, site: Site, tmp_path: Path) -> None:
        with _raw_server(_tls_handshake(tmp_path)) as port, pytest.raises(DefiniteFailure, match="No secure"):
            fetch("POST", f"https://127.0.0.1:{port}/", seconds=5)

    def test_a_server_that_speaks_no_tls_is_definite(self, site: Site) -> None:
        with _raw_server(lambda c: c.sendall(b"HTTP/1.1 200 OK\r\n\r\n")) as port:
            with pytest.raises(DefiniteFailure, match="No secure"):
                fetch("POST", f"https://127.0.0.1:{port}/", seconds=5)

    def test_a_handshake_that_hangs_ends_in_time(self, site: Site) -> None:
        with _raw_server(lambda c: time.sleep(3)) as port:
            began = time.monotonic()
            with pytest.raises(DefiniteFailure):
                fetch("POST", f"https://127.0.0.1:{port}/", seconds=0.4)
            assert time.monotonic() - began < 2.9

    def test_a_connection_that_ends_without_an_answer_is_ambiguous(self, site: Site) -> None:
        with _raw_server(lambda c: c.recv(65536)) as port, pytest.raises(AmbiguousOutcome):
            fetch("POST", f"http://127.0.0.1:{port}/", content=b"x", seconds=5)

    def test_silence_is_ambiguous_and_ends_in_time(self, site: Site) -> None:
        with _raw_server(lambda c: time.sleep(3)) as port:
            began = time.monotonic()
            with pytest.raises(AmbiguousOutcome, match="in time"):
                fetch("POST", f"http://127.0.0.1:{port}/", content=b"x", seconds=0.4)
            assert time.monotonic() - began < 2.9

    def test_headers_that_trickle_end_in_time(self, site: Site) -> None:
        def trickle(connection: socket.socket) -> None:
            connection.recv(65536)
            for _ in range(100):
                connection.sendall(b"H")
                time.sleep(0.05)

        with _raw_server(trickle) as port:
            began = time.monotonic()
            with pytest.raises(AmbiguousOutcome):
                fetch("POST", f"http://127.0.0.1:{port}/", seconds=0.5)
            assert time.monotonic() - began < 2.9

    def test_a_body_that_trickles_ends_in_time_with_the_status(self, site: Site) -> None:
        def trickle(connection: socket.socket) -> None:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            for _ in range(100):
                connection.sendall(b"x")
                time.sleep(0.05)

        with _raw_server(trickle) as port:
            began = time.monotonic()
            response = fetch("POST", f"http://127.0.0.1:{port}/", seconds=0.5)
            assert (response.status, "cut off" in response.incomplete) == (200, True)
            assert time.monotonic() - began < 2.9

    def test_a_large_body_is_cut(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(client, "MAX_BYTES", 1000)
        site.answers["/"] = (200, {}, b"x" * 5000)
        response = fetch("GET", site.url, seconds=5)
        assert (len(response.body), "larger" in response.incomplete) == (1000, True)


@given(st.text(max_size=40))
def test_a_header_with_a_line_break_is_refused_before_anything_leaves(value: str) -> None:
    for name, text in (
        ("X-Note", value + "\r\nX-Evil: 1"),
        ("X\n" + value, "1"),
        ("X-Note", "a\x00" + value),
    ):
        with pytest.raises(StepError) as caught:
            fetch("GET", "http://127.0.0.1:1/", headers={name: text}, seconds=1)
        assert caught.value.code == "bad_header"


@pytest.mark.parametrize("name", ["Host", "content-length", "Transfer-Encoding", "Connection"])
def test_headers_of_the_connection_cannot_be_set(name: str) -> None:
    with pytest.raises(StepError, match="cannot be set"):
        fetch("GET", "http://127.0.0.1:1/", headers={name: "x"}, seconds=1)


def test_host_rules() -> None:
    assert host_matches("shop.example", "SHOP.example")
    assert host_matches("a.shop.example", "*.shop.example")
    assert host_matches("shop.example", "shop.example:8443", 8443)
    assert not host_matches("shop.example", "shop.example:8443", 443)
    assert not host_matches("shop.example", "*.shop.example")
    assert not host_matches("evilshop.example", "*.shop.example")
    assert not host_matches("shop.example.evil.com", "shop.example")


@contextmanager
def _raw_server(serve: Callable[[socket.socket], Any]) -> Iterator[int]:
    listener = socket.create_server(("127.0.0.1", 0))

    def loop() -> None:
        try:
            connection, _ = listener.accept()
            with connection:
                serve(connection)
        except OSError:
            pass

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()


def _tls_handshake(folder: Path) -> Callable[[socket.socket], None]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    path = folder / "own.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            secure.recv(10)

    return serve
