"""One of a workspace's named things, by the id or the name a person gives."""

from __future__ import annotations

from typing import Any, TypeVar

from django.db.models import Model, QuerySet

from mirrorneuron.base.errors import NotFound
from mirrorneuron.base.ids import as_uuid

Row = TypeVar("Row", bound=Model)


def one_named(rows: QuerySet[Row], which: Any, thing: str) -> Row:
    """The row of this id or name. Raises NotFound, which names the thing, where none of `rows` is meant."""
    identity = as_uuid(which)
    found = rows.filter(**({"id": identity} if identity else {"name": str(which)})).first()
    if found is None:
        raise NotFound(
            f"There is no {thing} {str(which)!r}.",
            code=f"{thing}_not_found",
            next=f"List them with `mn {thing} list`.",
        )
    return found
