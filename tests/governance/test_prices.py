import pytest

from apps.governance.selectors import operator_price
from apps.governance.services import set_price
from mirrorneuron.base.errors import Forbidden, InvalidInput

pytestmark = pytest.mark.django_db


def test_operator_price_is_found_in_its_workspace_only(alice, principal, workspace, elsewhere):
    for amount in (100, 200):
        set_price(principal(alice), "openai:small", input_microusd=amount, output_microusd=400)
    assert operator_price(workspace.id, "openai:small").input_microusd == 200
    assert operator_price(elsewhere.id, "openai:small") is None


def test_price_is_refused_without_admin_or_sense(alice, bob, principal):
    with pytest.raises(Forbidden):
        set_price(principal(bob), "openai:small", input_microusd=1, output_microusd=1)
    with pytest.raises(InvalidInput) as caught:
        set_price(principal(alice), "small", input_microusd=-1, output_microusd=1)
    assert set(caught.value.fields) == {"model", "input_microusd"}
