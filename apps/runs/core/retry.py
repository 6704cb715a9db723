"""Whether a failed step is tried again, and when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from apps.blueprints.core.document import Document, Node, Retry

MAX_RETRY_AFTER_SECONDS = 3600.0


@dataclass(frozen=True)
class RetryPolicy:
    max_attempts: int
    base_seconds: float
    factor: float
    max_seconds: float


def retry_policy(node: Node, document: Document) -> RetryPolicy:
    """The node's own policy, filled up from the contract, whose budget counts retries: tries are one more."""
    retry = node.retry or Retry()
    budget = document.contract.recovery_policy.retry_budget
    return RetryPolicy(
        max_attempts=retry.max_attempts if retry.max_attempts is not None else budget + 1,
        base_seconds=retry.base,
        factor=retry.factor,
        max_seconds=retry.max,
    )


def next_retry(
    policy: RetryPolicy, failures: int, now: datetime, jitter: float, retry_after: float | None = None
) -> datetime | None:
    """When a failed step is tried again; None when its attempts are used up.

    failures: reported failures so far, this one included; lost attempts do not count.
    jitter: a draw from [0, 1); the delay is jitter * min(max_seconds, base_seconds * factor ** (failures-1)).
    retry_after: seconds the other side asked for; never shortened, at most an hour is believed.
    Raises ValueError if failures < 1.
    Source: "full jitter" in M. Brooker, Exponential Backoff and Jitter, AWS Architecture Blog, 2015.
    """
    if failures < 1:
        raise ValueError("failures counts this failure too, so it is at least 1")
    if failures >= policy.max_attempts:
        return None
    exponent = min(failures - 1, 64)
    delay = jitter * min(policy.max_seconds, policy.base_seconds * policy.factor**exponent)
    if retry_after is not None:
        delay = max(delay, min(retry_after, MAX_RETRY_AFTER_SECONDS))
    return now + timedelta(seconds=delay)
