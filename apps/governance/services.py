"""Writes about limits and prices."""

from __future__ import annotations

from django.db import transaction

from apps.governance.models import Price
from apps.workspaces.access import Principal
from apps.workspaces.core.roles import Permission
from apps.workspaces.services import audit
from mirrorneuron.base.errors import InvalidInput


@transaction.atomic
def set_price(principal: Principal, model: str, *, input_microusd: int, output_microusd: int) -> Price:
    """Set what one model costs here, in micro-dollars per million tokens; it wins over the public list.

    Raises Forbidden, or InvalidInput for a negative price or a model not written `provider:model`.
    """
    principal.require(Permission.ADMINISTER)
    wrong = {
        name: "A price is zero or more."
        for name, value in (("input_microusd", input_microusd), ("output_microusd", output_microusd))
        if value < 0
    }
    if not all(model.partition(":")[::2]):
        wrong["model"] = "Write it as provider:model."
    if wrong:
        raise InvalidInput(f"The price was not saved. {' '.join(wrong.values())}", fields=wrong)
    values = {"input_microusd": input_microusd, "output_microusd": output_microusd}
    price, _ = Price.objects.update_or_create(workspace=principal.workspace, model=model, defaults=values)
    audit(principal, "price.set", model, values)
    return price
