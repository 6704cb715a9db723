"""The Celery app: executor only. A message is a doorbell; the database is the truth (DESIGN section 2).

So: early acknowledgement, no results, no retries, no ETA, no chains, no beat. Losing or repeating any
message costs latency, never correctness.
"""

from __future__ import annotations

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mirrorneuron.settings")
# Without this Celery closes the database connection around every task (4 ms each on PostgreSQL).
CELERY_DB_REUSE_MAX = 1_000_000

app = Celery("mirrorneuron")


def _settings() -> dict:
    from mirrorneuron.base.transport import register
    from mirrorneuron.config import config

    register()
    url = config().broker_url or "wakemem://localhost/"
    options: dict = {}
    if url.startswith("redis"):
        options = {
            "visibility_timeout": 3600,
            "socket_timeout": 5,
            "socket_connect_timeout": 2,
            "socket_keepalive": True,
            "health_check_interval": 10,
        }
    elif url.startswith("amqp"):
        options = {"confirm_publish": True}
    return {
        "broker_url": url,
        "broker_transport_options": options,
        "task_default_queue": "default",
        # Quorum queues bring Celery's delayed delivery with them, which wants a topic exchange.
        "task_default_exchange": "mirrorneuron",
        "task_default_exchange_type": "topic",
        "task_default_routing_key": "default",
        "task_default_queue_type": "quorum" if url.startswith("amqp") else None,
        "task_acks_late": False,
        "task_ignore_result": True,
        "task_publish_retry": False,
        "task_send_sent_event": False,
        "worker_prefetch_multiplier": 1,
        "worker_send_task_events": False,
        "worker_enable_remote_control": False,
        "worker_redirect_stdouts": False,
        "worker_hijack_root_logger": False,
        "worker_enable_prefetch_count_reduction": False,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "broker_connection_timeout": 2,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_heartbeat": 10,
        "db_reuse_max": CELERY_DB_REUSE_MAX,
    }


app.add_defaults(_settings)
app.autodiscover_tasks(["apps.runs"])
