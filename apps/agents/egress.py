"""Whom a tool may reach.

A name is resolved here and its addresses are checked; whoever connects uses the addresses this gives and
never resolves the name again, so it cannot point somewhere else a moment later. Not public means refused,
unless MN_EGRESS_ALLOW names the host or its network.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import threading

from apps.agents.tools.base import DefiniteFailure
from mirrorneuron.config import config

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_ALWAYS_PRIVATE = (
    ipaddress.ip_network("168.63.129.16/32"),  # a platform's own service on a public address
    ipaddress.ip_network("192.0.0.0/24"),  # protocol assignments; releases of Python disagree about it
    ipaddress.ip_network("192.88.99.0/24"),  # relays to 6to4
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_COMPATIBLE = ipaddress.ip_network("::/96")


class EgressRefused(DefiniteFailure):
    """A host that this installation does not let its tools reach; nothing left the machine."""

    code = "egress_refused"


def is_public(address: Address) -> bool:
    """True for addresses of the open internet; an address that wraps another counts as the inner one."""
    inner = _inner(address)
    if inner is not None:
        return is_public(inner)
    if any(address.version == net.version and address in net for net in _ALWAYS_PRIVATE):
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.is_site_local:
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def _inner(address: Address) -> Address | None:
    """The IPv4 address inside a mapped, compatible, 6to4, Teredo or NAT64 address."""
    if not isinstance(address, ipaddress.IPv6Address):
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in _NAT64 or (address in _COMPATIBLE and int(address) > 0xFFFF):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def is_allowed(host: str, address: Address) -> bool:
    """Whether a tool may connect to this address under this name."""
    if is_public(address):
        return True
    plain = (_inner(address) or address, address)
    for entry in config().egress:
        if "/" in entry:
            network = ipaddress.ip_network(entry, strict=False)
            if any(a.version == network.version and a in network for a in plain):
                return True
        elif host_matches(host, entry) or any(str(a) == entry.strip("[]") for a in plain):
            return True
    return False


def host_matches(host: str, pattern: str, port: int | None = None) -> bool:
    """Whether a host name is the one a rule names: `shop.example`, `*.shop.example`, `shop.example:8443`."""
    host, pattern = host.lower().rstrip(".").strip("[]"), pattern.lower()
    named = re.fullmatch(r"(\[[^\]]+\]|[^:]+):(\d+)", pattern)
    if named:
        if port is not None and int(named[2]) != port:
            return False
        pattern = named[1]
    pattern = pattern.rstrip(".").strip("[]")
    if pattern.startswith("*."):
        return host.endswith(pattern[1:]) and host != pattern[2:]
    return host == pattern


def resolve(host: str, port: int, seconds: float) -> list[str]:
    """The addresses of a host that may be connected to, in the resolver's order.

    Raises EgressRefused when it has only forbidden ones, DefiniteFailure when it has none.
    """
    try:
        literal = ipaddress.ip_address(host.strip("[]"))
        found: list[Address] = [literal]
    except ValueError:
        found = [ipaddress.ip_address(a.partition("%")[0]) for a in _lookup(host, port, seconds)]
    allowed = [str(a) for a in dict.fromkeys(found) if is_allowed(host, a)]
    if not allowed:
        raise EgressRefused(
            f'"{host}" is not a public host ({found[0]}); tools reach it only if MN_EGRESS_ALLOW names it.',
            permanent=True,
            next=f"Set MN_EGRESS_ALLOW={host.strip('[]')}, or to a network with {found[0]}, and restart.",
        )
    return allowed


def _lookup(host: str, port: int, seconds: float) -> list[str]:
    # getaddrinfo cannot be interrupted, so it gets a thread that may be left behind.
    answer: list[str] = []
    problem: list[Exception] = []

    def ask() -> None:
        try:
            rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answer.extend(str(row[4][0]) for row in rows)
        except (OSError, UnicodeError) as exc:
            problem.append(exc)

    thread = threading.Thread(target=ask, name="egress-dns", daemon=True)
    thread.start()
    thread.join(max(seconds, 0.01))
    if thread.is_alive():
        raise DefiniteFailure(f'The name "{host}" could not be resolved in time.', code="dns_timeout")
    if not answer:
        raise DefiniteFailure(f'There is no host "{host}".', code="dns_failed") from (
            problem[0] if problem else None
        )
    return answer
