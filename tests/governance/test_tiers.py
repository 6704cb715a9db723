import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.governance.core.tiers import Tier, may_call, tier_of
from apps.ledger.core.states import EffectClass

effects = st.sampled_from(EffectClass)
flags = st.fixed_dictionaries({"reversible": st.booleans(), "open_world": st.booleans()})


def test_read_needs_nobody():
    assert may_call(tier_of(EffectClass.READ), EffectClass.READ, approved=False)


@pytest.mark.parametrize("effect", [e for e in EffectClass if e is not EffectClass.READ])
def test_write_waits_for_a_person_unless_declared(effect):
    assert tier_of(effect) is Tier.APPROVE
    assert not may_call(Tier.APPROVE, effect, approved=False)
    assert may_call(Tier.APPROVE, effect, approved=True)


def test_acting_alone_needs_a_way_back():
    assert tier_of(EffectClass.KEYED, 2) is Tier.APPROVE
    assert tier_of(EffectClass.KEYED, 2, reversible=True) is Tier.ACT
    assert tier_of(EffectClass.IDEMPOTENT, 2, open_world=False) is Tier.ACT


def test_suggest_only_writes_nothing_even_when_approved():
    assert not may_call(tier_of(EffectClass.KEYED, 0), EffectClass.KEYED, approved=True)


@given(effects, st.sampled_from([None, 0, 1, 2]), flags)
def test_no_declaration_lets_an_irreversible_open_write_act_alone(effect, declared, more):
    tier = tier_of(effect, declared, **more)
    if tier is Tier.ACT:
        assert declared == 2 and (more["reversible"] or not more["open_world"])
