"""An answer that another side has packed is unpacked no further than it may be large."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest

from apps.agents.tools.client import MAX_BYTES, fetch
from tests.agents.tools.conftest import Site

MEGABYTE = 1024 * 1024


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_bomb_is_not_unpacked_into_memory(site: Site, times: int) -> None:
    packed = gzip.compress(bytes(400 * MEGABYTE), 1 if times == 1 else 9)
    for _ in range(times - 1):
        packed = gzip.compress(packed)
    encoding = ", ".join(["gzip"] * times)
    site.answers["/"] = (200, {"Content-Encoding": encoding, "Content-Type": "text/plain"}, packed)
    tracemalloc.start()
    try:
        found = fetch("GET", site.url + "/", seconds=20)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.incomplete and len(found.body) <= MAX_BYTES
    assert peak < 40 * MEGABYTE, peak


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("gzip", gzip.compress(b"hello")),
        ("x-gzip", gzip.compress(b"hello")),
        ("deflate", zlib.compress(b"hello")),
        ("deflate", zlib.compress(b"hello")[2:-4]),
        ("identity", b"hello"),
        ("", b"hello"),
    ],
)
def test_one_usual_packing_is_undone_although_none_was_asked_for(
    site: Site, encoding: str, packed: bytes
) -> None:
    site.answers["/"] = (200, {"Content-Encoding": encoding}, packed)
    found = fetch("GET", site.url + "/", seconds=5)
    assert (found.body, found.incomplete) == (b"hello", "")


def test_a_packing_nobody_knows_is_said(site: Site) -> None:
    site.answers["/"] = (200, {"Content-Encoding": "compress"}, b"\x1f\x9d")
    found = fetch("GET", site.url + "/", seconds=5)
    assert found.status == 200 and "compress" in found.incomplete
