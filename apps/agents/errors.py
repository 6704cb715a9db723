"""Errors of agents and the gateway.

StepError (apps.runs.errors)
├── Refused          a rule of the contract said no; permanent, exit code 4
├── Rejected         a person said no; permanent
└── MalformedOutput  a model's answer did not fit after every repair; permanent
"""

from __future__ import annotations

from typing import Any

from apps.runs.errors import StepError


class Refused(StepError):
    """rule: allowed_tools, agent_tools, declared, forbidden, argument_schema, tier, tool_limit."""

    code = "refused"

    def __init__(self, message: str, *, rule: str, unsafe: bool = False, **more: Any) -> None:
        super().__init__(message, permanent=True, rule=rule, unsafe=unsafe, **more)
        self.rule = rule
        self.unsafe = unsafe


class Rejected(StepError):
    code = "rejected"


class MalformedOutput(StepError):
    code = "malformed_output"
