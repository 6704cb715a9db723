"""The Celery app: executor only. A message is a doorbell; the database is the truth (DESIGN section 2).

So: early acknowledgement, no results, no retries, no ETA, no chains, no beat. Losing or repeating any
message costs latency, never correctness.
"""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from celery.app import amqp
from celery.worker.consumer import Consumer
from kombu import Exchange, Queue

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mirrorneuron.settings")
DB_REUSE_MAX = 2**62
"""Never: else Celery closes the database's connection after every task, and what was prepared on it."""
RINGS_KEPT = 200
"""Of one queue; the oldest go first."""
RINGS_KEPT_SECONDS = 60
QUIET_SECONDS = 10
"""A broker that has not answered for so long is gone."""

PREFIX = "mn."
"""Before the names of our queues, so that they are known as ours on a broker that others use too."""


class Listener(Consumer):
    """Celery's consumer without delayed delivery, for which it would declare 28 queues on RabbitMQ."""

    class Blueprint(Consumer.Blueprint):
        default_steps = [
            s for s in Consumer.Blueprint.default_steps if not str(s).endswith(":DelayedDelivery")
        ]


def queue(name: str) -> Queue:
    """A queue of doorbells; on RabbitMQ it is replicated, and bounded in length and age."""
    arguments: dict[str, Any] = {}
    if _broker().startswith("amqp"):
        arguments = {
            "x-queue-type": "quorum",
            "x-max-length": RINGS_KEPT,
            "x-message-ttl": RINGS_KEPT_SECONDS * 1000,
        }
    # Direct: Celery then puts messages straight into the queue, while a binding would be lost with a flush of
    # the broker, and with it every later message of this process.
    exchange = Exchange(PREFIX + "doorbells", type="direct")
    return Queue(PREFIX + name, exchange, name, alias=name, queue_arguments=arguments)


class Queues(amqp.Queues):
    def new_missing(self, name: str) -> Queue:
        """Any name will do: which queues there are, blueprints say."""
        return queue(name)


class Broker(amqp.AMQP):
    queues_cls = Queues


app = Celery("mirrorneuron", amqp="mirrorneuron.celery:Broker")


def _broker() -> str:
    from mirrorneuron.config import config

    return config().broker_url or "wakemem://localhost/"


def _transport_options(url: str) -> dict[str, Any]:
    if url.startswith("redis"):
        return {
            "visibility_timeout": 3600,
            "socket_timeout": 5,
            "socket_connect_timeout": 2,
            "socket_keepalive": True,
            "health_check_interval": QUIET_SECONDS,
            "retry_on_timeout": True,
        }
    if url.startswith("amqp"):
        return {"confirm_publish": True}
    return {}


def _settings() -> dict[str, Any]:
    from mirrorneuron.base.transport import register

    register()
    url = _broker()
    return {
        "broker_url": url,
        "broker_transport_options": _transport_options(url),
        "task_default_queue": "default",
        "task_queues": [queue("default")],
        "task_acks_late": False,
        "task_ignore_result": True,
        "task_publish_retry": False,
        "task_send_sent_event": False,
        "worker_consumer": "mirrorneuron.celery:Listener",
        "worker_prefetch_multiplier": 1,
        "worker_send_task_events": False,
        "worker_enable_remote_control": False,
        "worker_redirect_stdouts": False,
        "worker_hijack_root_logger": False,
        "worker_enable_prefetch_count_reduction": False,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "broker_connection_timeout": 2,
        "broker_connection_retry": True,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_heartbeat": QUIET_SECONDS,
        "CELERY_DB_REUSE_MAX": DB_REUSE_MAX,
    }


app.add_defaults(_settings)
app.autodiscover_tasks(["apps.runs"])
