"""The root of every error tree.

MirrorNeuronError
├── InvalidInput        what was given cannot be used (422)
├── NotFound            no such thing, or not for this person (404)
├── Forbidden           known person, role too small (403)
├── Conflict            the thing has moved on (409)
├── TooLarge            over a stated limit (413)
├── Unavailable         something outside is not there; trying again can help (503)
└── ConfigurationError  a setting or the machine is wrong; the start stops
"""

from __future__ import annotations

from typing import Any


class MirrorNeuronError(Exception):
    """An error a person can act on.

    code: stable, machine-readable, snake_case.
    message: names the thing, what was found, what was expected.
    fields: input fields at fault, by path, each with its sentence.
    next: what to do about it, one sentence.
    """

    code = "error"
    status = 500

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        fields: dict[str, str] | None = None,
        next: str = "",
        **attributes: Any,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.code
        self.fields = fields or {}
        self.next = next
        self.attributes = attributes

    def __str__(self) -> str:
        return f"{self.message} {self.next}".strip()


class InvalidInput(MirrorNeuronError):
    code = "invalid_input"
    status = 422


class NotFound(MirrorNeuronError):
    code = "not_found"
    status = 404


class Forbidden(MirrorNeuronError):
    code = "forbidden"
    status = 403


class Conflict(MirrorNeuronError):
    code = "conflict"
    status = 409


class TooLarge(MirrorNeuronError):
    code = "too_large"
    status = 413


class Unavailable(MirrorNeuronError):
    code = "unavailable"
    status = 503


class ConfigurationError(MirrorNeuronError):
    code = "configuration"
    status = 500
