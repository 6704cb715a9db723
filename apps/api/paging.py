"""Cursor pages, `{"items": […], "next": "…"}`, that neither repeat nor miss a row while others insert.

Rows are ordered by their time-ordered id; a cursor is the last id seen. `next` is null on the last page.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

from django.db.models import Model, QuerySet
from pydantic import BaseModel, Field

from mirrorneuron.base.errors import InvalidInput
from mirrorneuron.base.ids import as_uuid

MAX_LIMIT = 200
Limit = Annotated[int, Field(ge=1, le=MAX_LIMIT, description="How many items at most.")]
Cursor = Annotated[str, Field(max_length=200, description="`next` of the page before.")]
Item = TypeVar("Item")
M = TypeVar("M", bound=Model)


class Page(BaseModel, Generic[Item]):
    items: list[Item]
    next: str | None = None
    """Pass as `cursor` to get the next page; null when this is the last one."""


def page(
    rows: QuerySet[M],
    view: Callable[[M], dict[str, Any]],
    *,
    cursor: str,
    limit: int,
    newest_first: bool = True,
    key: str = "id",
    complete: Callable[[list[M]], Iterable[M]] = list,
) -> dict[str, Any]:
    """One page of rows with a UUID key, one row read ahead to know whether there is more.

    complete: reads what the views of these rows need besides, for all of them at once.
    Raises InvalidInput for a cursor that is not one of ours.
    """
    if cursor:
        after = _decode(cursor)
        rows = rows.filter(**{f"{key}__lt" if newest_first else f"{key}__gt": after})
    found = list(rows.order_by(f"-{key}" if newest_first else key)[: limit + 1])
    more = len(found) > limit
    found = found[:limit]
    return {
        "items": [view(row) for row in complete(found)],
        "next": _encode(getattr(found[-1], key)) if more else None,
    }


def listed(items: list[Any]) -> dict[str, Any]:
    """A list that is short by nature, in the same shape."""
    return {"items": items, "next": None}


def _encode(key: UUID) -> str:
    return base64.urlsafe_b64encode(key.bytes).decode().rstrip("=")


def _decode(cursor: str) -> UUID:
    try:
        found = as_uuid(UUID(bytes=base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))))
    except (ValueError, binascii.Error):
        found = None
    if found is None:
        raise InvalidInput(
            "The cursor is not one of ours.",
            fields={"cursor": "Use `next` of the page before, unchanged."},
            next="Start again without a cursor.",
        )
    return found
