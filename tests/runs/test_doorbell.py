"""The doorbell: what it may lose, and how many rings are of use."""

from __future__ import annotations

from uuid import uuid4

import pytest

from apps.runs.doorbell import MAX_RINGS, _Bell
from apps.runs.tasks import drain


@pytest.fixture
def queue():
    """The name of a queue in this process that nobody listens to, and its length."""
    name = f"t{uuid4().hex}"
    bell = _Bell()
    bell.ring(name, 1)
    channel, full_name = bell._connection.default_channel, drain.app.amqp.queues[name].name
    yield bell, name, lambda: channel._size(full_name)
    channel._purge(full_name)
    bell._connection.release()


def test_rings_that_nobody_has_answered_yet_do_not_pile_up(queue):
    """Each would be a look for nothing once the burst is worked."""
    bell, name, unheard = queue
    assert unheard() == 1
    bell.ring(name, 3)
    assert unheard() == 4
    for _ in range(100):
        bell.ring(name, 1)
    assert unheard() == MAX_RINGS
    bell.ring(name, MAX_RINGS)
    assert unheard() == MAX_RINGS
