"""MirrorNeuron, the roof: settings, URLs, ASGI, Celery and the command line.

The Celery app is imported here so that a doorbell rung from any process uses the configured broker.
"""

from mirrorneuron.celery import app as celery_app

__all__ = ["__version__", "celery_app"]
__version__ = "0.1.0"
