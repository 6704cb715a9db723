"""Token buckets: everybody who waits has a time of his own; nobody asks twice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from apps.governance.core.buckets import PACE, Level, come_again, credited, rest, take

AT = datetime(2026, 1, 1, tzinfo=UTC)


def seconds(due):
    return None if due is None else (due - AT).total_seconds()


def at(offset):
    return AT + timedelta(seconds=offset)


def test_a_full_bucket_gives_as_many_as_it_holds_at_once():
    level, answers = Level(3, AT, 3, 1), []
    for _ in range(4):
        level, due = take(level, AT, 0)
        answers.append(seconds(due))
    assert answers == [None, None, None, 1.0]


def test_it_fills_up_again_and_never_beyond_its_size():
    level, _ = take(Level(0, AT, 2, 1), at(100), 0)
    assert level.tokens == 1


def test_who_waits_comes_in_order_and_at_the_rate():
    level, dues = Level(0, AT, 1, 2), []
    for _ in range(5):
        level, due = take(level, AT, 0)
        dues.append(seconds(due))
    assert dues == [0.5, 1.0, 1.5, 2.0, 2.5]


def test_jitter_spreads_and_never_shortens():
    _, plain = take(Level(0, AT, 1, 2), AT, 0)
    _, late = take(Level(0, AT, 1, 2), AT, 0.9)
    assert plain < late <= plain + timedelta(seconds=0.5)


def test_without_a_limit_everything_goes():
    level = Level(0, AT)
    for _ in range(100):
        level, due = take(level, AT, 0.5)
        assert due is None


def test_after_a_rest_they_come_one_by_one():
    level = rest(Level(0, AT), at(30), AT)
    dues = []
    for _ in range(10):
        level, due = take(level, AT, 0)
        dues.append(seconds(due))
    assert dues[0] >= 30
    gaps = [b - a for a, b in pairwise(dues)]
    assert all(abs(gap - 1 / PACE) < 1e-6 for gap in gaps)
    # One who comes while they come stands behind them; later it is as if nothing had been.
    level, due = take(level, at(30.1), 0)
    assert due is not None and seconds(due) > dues[-1]
    _, due = take(level, at(60), 0)
    assert due is None


def test_a_longer_request_for_rest_stands():
    level = rest(rest(Level(0, AT), at(60), AT), at(10), AT)
    assert level.blocked_until == at(60)


def test_a_limit_does_not_fill_up_while_the_other_side_rests():
    level = rest(Level(0, AT, 100, 10), at(60), AT)
    level, due = take(level, at(59), 0)
    assert seconds(due) > 60


def test_a_reserved_token_is_not_taken_twice():
    level, due = take(Level(0, AT, 1, 1), AT, 0)
    assert come_again(level, due, 0.5) is None


def test_a_reserved_token_waits_out_a_new_request_for_rest():
    level, due = take(Level(0, AT, 1, 1), AT, 0)
    level = rest(level, at(100), due)
    again = come_again(level, due, 0.5)
    assert again is not None and seconds(again) >= 100
    assert come_again(level, at(101), 0.5) is None


def test_credit_stops_at_the_brim():
    assert credited(Level(9.95, AT, 10, 0.1), 0.1, AT).tokens == 10


@given(
    st.integers(1, 20),
    st.floats(0.1, 50),
    st.lists(st.tuples(st.floats(0, 3), st.floats(0, 0.999)), max_size=80),
)
def test_no_more_calls_than_capacity_and_rate_allow(capacity, rate, arrivals):
    """Whoever comes when told to: in no span of time more than the bucket's size plus its rate."""
    level, now, calls = Level(capacity, AT, capacity, rate), AT, []
    for pause, jitter in arrivals:
        now += timedelta(seconds=pause)
        level, due = take(level, now, jitter)
        calls.append(due or now)
    calls.sort()
    for i, first in enumerate(calls):
        for n, last in enumerate(calls[i:], start=1):
            # Jitter may push a call later by one interval, next to the one after it.
            allowed = capacity + ((last - first).total_seconds() + 1 / rate) * rate + 1
            assert n <= allowed + 1e-6
