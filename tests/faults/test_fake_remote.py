"""The witness itself: a test that trusts the fake remote is only as good as its counting."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from tests.fake_remote import serve


def test_a_key_is_executed_once_and_answered_alike(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    with serve(log) as remote:
        send = lambda: httpx.post(  # noqa: E731
            f"{remote.url}/keyed/pay", json={"amount": 1}, headers={"Idempotency-Key": "k1"}
        )
        first, second = send(), send()
        assert first.json()["id"] == second.json()["id"]
        assert len(remote.received("/keyed/pay")) == 2
        assert len(remote.executions("/keyed/pay")) == 1
        remote.assert_each_key_once()
    assert [json.loads(line)["event"] for line in log.read_text().splitlines()] == [
        "received",
        "executed",
        "received",
    ]


def test_a_repeat_with_another_body_is_found_out() -> None:
    with serve() as remote:
        for amount in (1, 2):
            httpx.post(f"{remote.url}/keyed/pay", json={"amount": amount}, headers={"Idempotency-Key": "k1"})
        with pytest.raises(AssertionError, match="two contents"):
            remote.assert_each_key_once()


def test_a_plain_path_executes_every_request() -> None:
    with serve() as remote:
        for _ in range(2):
            httpx.post(f"{remote.url}/plain/pay", json={}, headers={"Idempotency-Key": "k1"})
        with pytest.raises(AssertionError, match="more than once"):
            remote.assert_each_key_once()


@pytest.mark.parametrize(
    ("step", "executed"),
    [
        ("execute_500", 1),
        ("execute_reset", 1),
        ("reset", 0),
        ("429:3", 0),
        ("status:400", 0),
        ("late:0.01", 1),
    ],
)
def test_a_script_does_what_it_says(step: str, executed: int) -> None:
    with serve() as remote:
        remote.script("/plain/pay", step)
        try:
            answer = httpx.post(f"{remote.url}/plain/pay", json={})
        except httpx.HTTPError:
            assert "reset" in step
        else:
            assert "reset" not in step
            if step.startswith("429"):
                assert answer.headers["retry-after"] == "3"
        assert len(remote.executions()) == executed
