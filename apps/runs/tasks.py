"""Wakes: the one Celery task. Its message says "there may be work" and nothing else."""

from __future__ import annotations

from celery import shared_task

# Before any ring: the app that knows the broker. Without it Celery would look for one of its own choosing.
import mirrorneuron.celery  # noqa: F401


@shared_task(name="runs.drain", acks_late=False, ignore_result=True)
def drain() -> None:
    """Work until nothing is ready or the slot has been held for long enough."""
    from apps.runs.worker import current_worker

    worker = current_worker()
    if worker is not None:
        worker.drain()
