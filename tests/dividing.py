"""Which tests go to the same process when several test at once (`-n 3 --dist loadgroup`).

Decided by the test's name alone, for the process that divides the work does not load the tests; xdist's own
marks do not reach it with every version of pytest.
"""

from __future__ import annotations

import re

from xdist.scheduler import LoadScopeScheduling

FAULTS = "tests/faults/"
BROKER = {"tests/cli/test_servers.py", "tests/cli/test_rolling.py", "tests/docker/test_docker.py"}
"""They ring doorbells in the queues of the one Redis and the one RabbitMQ, and would hear each other's."""
SOAK = "tests/faults/test_soak.py"
LONG = (
    "broker", f"{FAULTS} server", f"{SOAK}::", "tests/faults/test_database_scenarios.py",
    "tests/cli/test_up.py", "tests/journeys/test_editor_together.py", "tests/bench/test_bench_command.py",
    f"{FAULTS} file",
)  # fmt: skip
"""How groups begin that take long: first, so that nobody waits for one of them at the end."""
SHAPE = re.compile(r"[\[-](file|laptop|server)[\]-]")


def group_of(test: str) -> str:
    """The tests of a file share one `mn up` or folder, those of the faults an installation of their shape."""
    path = test.partition("::")[0]
    if path in BROKER:
        return "broker"
    if path == SOAK:
        return test
    if path.startswith(FAULTS) and (shape := SHAPE.search(test)):
        return f"{path} {shape[1]}" if shape[1] == "laptop" else f"{FAULTS} {shape[1]}"
    return path


def turn_of(test: str) -> int:
    """When a test has its turn; otherwise they stay as they were collected."""
    group = group_of(test)
    return next((n for n, begins in enumerate(LONG) if group.startswith(begins)), len(LONG))


class Groups(LoadScopeScheduling):
    """Hands out whole groups."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)
