"""Who is next, without a database: shares by weight, no savings, aging inside a workspace."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from apps.runs.core.shares import AGING_SECONDS, Candidate, Shares

A, B, C = (UUID(int=n) for n in (1, 2, 3))
AT = datetime(2026, 1, 1, tzinfo=UTC)


def serve(shares, waiting, weights, times, seconds=0.1):
    served = []
    for _ in range(times):
        chosen = shares.next_of(waiting, weights)
        shares.began(chosen)
        shares.ended(chosen, seconds, weights.get(chosen, 1))
        served.append(chosen)
    return served


def candidate(priority, waited, path="s"):
    return Candidate(UUID(int=9), path, A, priority, AT - timedelta(seconds=waited))


def test_equal_weights_take_turns():
    assert Counter(serve(Shares(), [A, B], {}, 20)) == {A: 10, B: 10}


def test_a_weight_of_three_gets_three_times_as_much():
    served = Counter(serve(Shares(), [A, B], {A: 3, B: 1}, 400))
    assert 2.8 < served[A] / served[B] < 3.2


def test_who_had_nothing_to_do_has_saved_nothing_up():
    shares = Shares()
    serve(shares, [A], {}, 1000)
    served = serve(shares, [A, B], {}, 20)
    assert Counter(served)[A] == 10


def test_who_used_much_while_alone_is_not_held_back_for_long():
    shares = Shares()
    for _ in range(4):
        shares.began(A)
    for _ in range(4):
        shares.ended(A, 3600.0, 1)
    served = serve(shares, [A, B], {}, 200)
    assert Counter(served)[A] > 50


def test_long_steps_count_by_their_time_and_not_by_their_number():
    shares, used = Shares(), Counter()
    for _ in range(300):
        chosen = shares.next_of([A, B], {})
        shares.began(chosen)
        seconds = 0.5 if chosen == A else 0.05
        shares.ended(chosen, seconds, 1)
        used[chosen] += seconds
    assert 0.8 < used[A] / used[B] < 1.25


def test_nobody_gets_the_last_slot_while_another_waits():
    shares = Shares(slots=4)
    for _ in range(3):
        shares.began(A)
    shares._used[B] = 1000.0
    assert shares.next_of([A, B], {}) == B
    assert shares.next_of([A], {}) == A


def test_a_process_with_one_slot_serves_everybody_all_the_same():
    assert set(serve(Shares(slots=1), [A, B, C], {}, 9)) == {A, B, C}


def test_nobody_waits_then_nobody_is_next():
    assert Shares().next_of([], {}) is None


def test_urgent_goes_first_and_waiting_makes_up_for_it():
    assert candidate(1, 0).urgency(AT) < candidate(5, 0).urgency(AT)
    assert candidate(5, 4 * AGING_SECONDS + 1).urgency(AT) < candidate(1, 0).urgency(AT)
    assert candidate(5, 10).urgency(AT) < candidate(5, 0).urgency(AT)


@given(st.lists(st.floats(0.001, 0.2), min_size=30, max_size=120))
def test_whoever_waits_is_served_within_a_bounded_number_of_turns(durations):
    """Whatever the others' steps take: with equal weights the gap between clocks stays bounded."""
    shares, since = Shares(), Counter()
    for seconds in durations:
        chosen = shares.next_of([A, B, C], {})
        shares.began(chosen)
        shares.ended(chosen, seconds, 1)
        for w in (A, B, C):
            since[w] = 0 if w == chosen else since[w] + 1
        # At most all the others' shortest steps against its own longest one.
        assert max(since.values()) <= 2 * 0.2 / 0.001
    spread = max(shares._used.values()) - min(shares._used.values())
    assert spread <= 0.2 + 0.001 + 1e-9
