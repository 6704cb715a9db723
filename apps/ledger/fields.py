"""A JSON column whose large parts lie elsewhere, once each; see `apps.ledger.payloads`."""

from __future__ import annotations

import json
from typing import Any

from django.db import models
from django.db.models.fields.json import KeyTransform
from django.db.models.query_utils import DeferredAttribute

from mirrorneuron.base.packed import MARK, Packed, encode

_VALUE = "payload:"


class PayloadAttribute(DeferredAttribute):
    """Reading the attribute gives the whole value and loads its payloads on first use; what is not looked at
    is not loaded."""

    def __get__(self, instance: Any, cls: Any = None) -> Any:
        if instance is None:
            return self
        name = self.field.attname
        stored = instance.__dict__[name] if name in instance.__dict__ else super().__get__(instance, cls)
        if not isinstance(stored, Packed):
            return stored
        known = instance.__dict__.get(_VALUE + name)
        if known is None or known[0] is not stored:
            from apps.ledger.payloads import resolve

            known = stored, resolve(stored, run_id=getattr(instance, "run_id", None))
            instance.__dict__[_VALUE + name] = known
        return known[1]

    def __set__(self, instance: Any, value: Any) -> None:
        instance.__dict__[self.field.attname] = value


class PayloadField(models.JSONField):
    """Holds a JSON value, or a `Packed` one whose payloads are written in the same transaction.

    A value that nobody packed is stored whole: larger than it need be, never wrong. From `values()` and
    `values_list()` a value with references (or with a user's key that looks like one) comes as a `Packed`;
    `payloads.resolve` makes it whole.
    """

    descriptor_class = PayloadAttribute

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        if not isinstance(value, str) or isinstance(expression, KeyTransform):
            return super().from_db_value(value, expression, connection)
        if MARK not in value:
            return json.loads(value)
        return Packed(value)

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        if isinstance(value, Packed):
            return _as_json(value.text, connection)
        if value is None or hasattr(value, "as_sql"):
            return super().get_db_prep_value(value, connection, prepared)
        return _as_json(encode(value), connection)

    def get_db_prep_save(self, value: Any, connection: Any) -> Any:
        return value if value is None else self.get_db_prep_value(value, connection)

    def pre_save(self, model_instance: Any, add: bool) -> Any:
        # As it is held, not as it reads: a packed value goes back the way it came.
        return model_instance.__dict__[self.attname]


def _as_json(text: str, connection: Any) -> Any:
    if connection.vendor != "postgresql":
        return text
    from psycopg.types.json import Jsonb

    return Jsonb(text, dumps=str)


def held(row: models.Model, name: str) -> Any:
    """A column as it lies in its row: the value, or a `Packed` whose payloads were not looked at."""
    return row.__dict__[name] if name in row.__dict__ else getattr(row, name)
