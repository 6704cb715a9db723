"""Slows down whoever guesses: so many failures of one kind, then a pause."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field

MOST_KEYS = 10_000


@dataclass
class Throttle:
    """Failures by key within a sliding window, in this process's memory; each process counts for itself.

    limit: failures allowed within `seconds`. The keys seen longest ago are forgotten first.
    """

    limit: int
    seconds: float
    _failures: OrderedDict[Hashable, list[float]] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def pause(self, key: Hashable, at: float) -> float:
        """Seconds until this key may try again; 0 when it may now. at: a monotonic clock's time."""
        with self._lock:
            recent = self._recent(key, at)
            return max(0.0, recent[-self.limit] + self.seconds - at) if len(recent) >= self.limit else 0.0

    def failed(self, key: Hashable, at: float) -> None:
        with self._lock:
            self._failures[key] = [*self._recent(key, at)[-self.limit :], at]
            self._failures.move_to_end(key)
            while len(self._failures) > MOST_KEYS:
                self._failures.popitem(last=False)

    def forget(self, key: Hashable) -> None:
        with self._lock:
            self._failures.pop(key, None)

    def clear(self) -> None:
        with self._lock:
            self._failures.clear()

    def _recent(self, key: Hashable, at: float) -> list[float]:
        return [then for then in self._failures.get(key, ()) if then > at - self.seconds]
