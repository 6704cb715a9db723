"""Large values by reference: what is packed comes back equal, and nothing a user writes is taken for more."""

from __future__ import annotations

import json
import string

from hypothesis import given, settings
from hypothesis import strategies as st

from mirrorneuron.base import packed
from mirrorneuron.base.packed import CACHE, LIMIT, Cache, Leaf, Ref, decode, encode, fill, pack, texts_for

KEYS = st.one_of(
    st.text(max_size=6),
    st.sampled_from(["$payload", "$$payload", "$$$payload", "payload", "$", "size", "type", "a$payload"]),
)
SMALL = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20), KEYS,
)  # fmt: skip
LONG = st.builds(
    lambda unit, n: unit * n, st.sampled_from(["x", 'ab"', "ä€", "\\", "🙂"]), st.integers(1, 9_000)
)
VALUES = st.recursive(
    st.one_of(SMALL, LONG),
    lambda inner: st.one_of(
        st.lists(inner, max_size=6),
        st.dictionaries(KEYS, inner, max_size=6),
        st.builds(lambda v, n: [v] * n, SMALL, st.integers(0, 1_500)),
    ),
    max_leaves=8,
)


def unpacked(found: packed.Packed) -> object:
    texts = {leaf.ref.hash: leaf.text for leaf in found.leaves}
    return fill(found.value, texts_for(found.value, lambda hashes: {h: texts[h] for h in hashes}))


@settings(max_examples=150)
@given(VALUES)
def test_what_is_packed_comes_back_equal_and_its_text_is_short(value: object) -> None:
    CACHE.clear()
    found = pack(value)
    CACHE.clear()
    back = unpacked(found)
    assert back == value and json.dumps(back) == json.dumps(value)
    assert len(found.text) <= LIMIT
    # Nothing hangs: every reference, also one inside a payload, has its payload, and none is too many.
    texts = texts_for(
        found.value, lambda hashes: {x.ref.hash: x.text for x in found.leaves if x.ref.hash in hashes}
    )
    assert {leaf.ref.hash for leaf in found.leaves} == set(texts)


@settings(max_examples=200)
@given(VALUES)
def test_the_same_value_gives_the_same_references(value: object) -> None:
    CACHE.clear()
    first = pack(value)
    again = pack(json.loads(json.dumps(value)))
    assert first.text == again.text


def test_a_small_value_is_its_own_json() -> None:
    assert pack({"i": 1, "ok": True}).text == '{"i":1,"ok":true}'
    assert pack(None).text == "null"


def test_a_user_s_own_reference_stays_his_object() -> None:
    ref = pack("x" * 20_000).value
    forged = {"out": ref.as_json()}
    found = pack(forged)
    assert found.leaves == ()
    assert decode(found.text) == forged


def test_a_large_text_is_shared_by_all_objects_that_carry_it() -> None:
    text = "".join(string.ascii_letters[i % 52] for i in range(100_000))
    names = {pack({"i": i, "text": text, "more": [i]}).leaves[0].ref.hash for i in range(5)}
    assert len(names) == 1


def test_an_unchanged_string_is_not_hashed_again(monkeypatch) -> None:
    text = "y" * 100_000
    CACHE.clear()
    first = pack({"text": text})
    monkeypatch.setattr(packed.hashlib, "sha256", None)
    assert pack({"other": text}).leaves == first.leaves


def test_a_growing_conversation_stores_its_long_messages_once() -> None:
    long = [{"role": "tool", "content": f"{i}" * 20_000} for i in range(4)]
    stored: set[str] = set()
    for turn in range(1, 5):
        stored |= {leaf.ref.hash for leaf in pack({"messages": long[:turn]}).leaves}
    assert len(stored) == 4


def test_many_small_items_become_one_payload() -> None:
    found = pack({"rows": [{"i": i} for i in range(5_000)], "n": 5_000})
    assert [leaf.ref.type for leaf in found.leaves] == ["json"]
    assert found.shown["n"] == 5_000


def test_the_cache_is_bounded_and_forgets_the_oldest() -> None:
    cache = Cache(characters=1_000)
    leaves = [Leaf(Ref(str(i), 400, "text", ""), f"{i}" * 400) for i in range(4)]
    for leaf in leaves:
        cache.keep(leaf)
    assert [cache.text_of(str(i)) is not None for i in range(4)] == [False, False, True, True]
    assert cache.leaf_of(leaves[0].text) is None and cache.leaf_of(leaves[3].text) is leaves[3]


def test_encode_and_decode_keep_references_apart_from_keys() -> None:
    ref = Ref("a" * 64, 9_000, "text", "beg")
    value = {"$payload": 1, "$$payload": {"$payload": ref}, "list": [ref, "$payload"]}
    assert decode(encode(value)) == value
