"""`mn worker` with the benchmark's own handler: a worker process of its own, until told to stop."""

from __future__ import annotations

import sys

from bench import house


def main(slots: int) -> None:
    house.open_house()
    house.register_handlers()
    from mirrorneuron.workers import work_with_threads

    work_with_threads(["default"], slots, sole=False)


if __name__ == "__main__":
    main(int(sys.argv[1]))
