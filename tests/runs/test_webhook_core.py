"""Signatures of webhooks: only who knows the secret, only just now, and a repeat is known as one."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.runs.core.mapping import MappingError, Start, Tell, planned, problems_of
from apps.runs.core.webhook import NotGenuine, Scheme, new_secret, sign, verified

SECRET = new_secret()
AT = 1_790_000_000
BODY = b'{"order": 17}'


def headers(body: bytes = BODY, *, secret: str = SECRET, at: int = AT, id: str = "m1") -> dict[str, str]:
    return {
        "webhook-id": id,
        "webhook-timestamp": str(at),
        "webhook-signature": sign(secret, id, at, body),
    }


def check(given: dict[str, str], body: bytes = BODY, known: tuple[str, ...] = (SECRET,), at: int = AT) -> str:
    return verified(Scheme.STANDARD, known, given, body, at, 300)


def test_the_published_example_of_the_specification_is_taken():
    """The vector in the documentation of Standard Webhooks."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    body = b'{"test": 2432232314}'
    given = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    assert verified(Scheme.STANDARD, [secret], given, body, 1614265330, 300) == given["webhook-id"]


@given(st.binary(max_size=200), st.integers(0, 200), st.integers(0, 7))
def test_one_other_bit_anywhere_is_refused(body, position, bit):
    given = headers(body)
    changed = bytearray(body or b"\0")
    changed[position % len(changed)] ^= 1 << bit
    assert check(given, body) == "m1"
    with pytest.raises(NotGenuine) as refused:
        check(given, bytes(changed) if body else b"\1")
    assert refused.value.code == "bad_signature"


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_each_header_is_needed_and_signed(name):
    with pytest.raises(NotGenuine):
        check({k: v for k, v in headers().items() if k != name})
    with pytest.raises(NotGenuine):
        check({**headers(), name: "1" if name != "webhook-signature" else "v1,AAAA"})


@pytest.mark.parametrize("timestamp", ["-1", "1e9", "now", "٣", "9" * 13, "1790000000.5"])
def test_a_time_that_is_no_number_is_refused_in_words(timestamp):
    with pytest.raises(NotGenuine):
        check({**headers(), "webhook-timestamp": timestamp})


@pytest.mark.parametrize(("late", "taken"), [(299, True), (-299, True), (301, False), (-301, False)])
def test_the_window_is_open_to_both_sides(late, taken):
    if taken:
        assert check(headers(), at=AT + late) == "m1"
        return
    with pytest.raises(NotGenuine) as refused:
        check(headers(), at=AT + late)
    assert refused.value.code == "outside_window"


def test_a_forged_message_is_not_told_that_it_is_also_late():
    with pytest.raises(NotGenuine) as refused:
        check(headers(secret=new_secret()), at=AT + 9999)
    assert refused.value.code == "bad_signature"


def test_any_of_several_secrets_and_signatures_will_do():
    old, new = new_secret(), new_secret()
    both = {**headers(secret=old)}
    both["webhook-signature"] += " " + sign(new, "m1", AT, BODY) + " v1a,ed25519-of-somebody"
    assert check(both, known=(new,)) == check(both, known=(new, old)) == "m1"
    assert check(headers(secret=old), known=(new, old)) == "m1"


def test_githubs_signature_is_over_the_body_alone():
    signature = "sha256=" + hmac.new(SECRET.encode(), BODY, hashlib.sha256).hexdigest()
    given = {"x-hub-signature-256": signature, "x-github-delivery": "anything"}
    key = verified(Scheme.GITHUB, [SECRET], given, BODY, 0, 300)
    assert key == "sha256:" + hashlib.sha256(BODY).hexdigest()
    with pytest.raises(NotGenuine):
        verified(Scheme.GITHUB, [SECRET], given, BODY + b" ", 0, 300)


def test_a_secret_somebody_brings_need_not_be_base64():
    assert check(headers(secret="a plain old secret"), known=("a plain old secret",)) == "m1"
    assert base64.b64decode(SECRET.removeprefix("whsec_"))


def test_a_mapping_makes_inputs_or_a_signal():
    start = {"blueprint": "greet", "inputs": {"name": "{{ body.who }}", "n": "{{ body.n }}"}}
    assert planned("start", start, {"who": "Ada", "n": 3}, {}) == Start("greet", {"name": "Ada", "n": 3}, {})
    tell = {"name": "paid", "label": "order", "equals": "{{ body.order }}", "key": "{{ body.payment }}"}
    body = {"order": 17, "payment": "p1"}
    assert planned("signal", tell, body, {}) == Tell("paid", "p1", body, "", "labels", "order", "17")


def test_a_condition_leaves_a_message_alone():
    tell = {"name": "x", "input": "o", "equals": "{{ body.o }}", "when": "headers['x-event'] == 'paid'"}
    assert planned("signal", tell, {"o": "1"}, {"x-event": "ping"}) is None
    assert planned("signal", tell, {"o": "1"}, {"x-event": "paid"}) is not None


@pytest.mark.parametrize("value", [None, "", True, {}, [1], 1.5])
def test_what_names_a_run_is_a_text_or_a_whole_number(value):
    tell = {"name": "x", "label": "o", "equals": "{{ body.o }}"}
    with pytest.raises(MappingError):
        planned("signal", tell, {"o": value}, {})


@pytest.mark.parametrize(
    ("target", "mapping", "fields"),
    [
        ("other", {}, {"target"}),
        ("start", {}, {"blueprint"}),
        ("start", {"blueprint": "a", "input": {}}, {"input"}),
        ("start", {"blueprint": "a", "inputs": "{{ body }}"}, {"inputs"}),
        ("start", {"blueprint": "a", "inputs": {"x": "{{ inputs.y }}"}}, {"inputs"}),
        ("start", {"blueprint": "a", "when": "body. =="}, {"when"}),
        ("signal", {}, {"name", "label", "equals"}),
        ("signal", {"name": "a", "label": "x", "input": "y", "equals": "{{ body.z }}"}, {"label"}),
        ("signal", {"name": 3, "label": "x", "equals": "{{ body.z }}"}, {"name"}),
    ],
)  # fmt: skip
def test_a_mapping_that_cannot_be_meant_is_refused_by_key(target, mapping, fields):
    assert set(problems_of(target, mapping)) == fields
