"""Breakers: open after failures, exactly one probe, closed by its success."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from apps.governance.core.breakers import (
    FAILURES,
    FIRST_SECONDS,
    MOST_SECONDS,
    WINDOW_SECONDS,
    Answer,
    Health,
    ask,
    failed,
    probing,
    succeeded,
    turned_away,
)

AT = datetime(2026, 1, 1, tzinfo=UTC)


def at(offset):
    return AT + timedelta(seconds=offset)


def opened():
    health = Health()
    for _ in range(FAILURES):
        health = failed(health, AT, was_probe=False)
    return health


def test_it_opens_after_enough_failures_and_not_before():
    health = Health()
    for n in range(FAILURES):
        assert ask(health, AT) is Answer.CALL, n
        health = failed(health, AT, was_probe=False)
    assert ask(health, AT) is Answer.WAIT


def test_failures_long_apart_do_not_open_it():
    health = Health()
    for n in range(FAILURES * 3):
        health = failed(health, at(n * (WINDOW_SECONDS + 1)), was_probe=False)
    assert ask(health, at(10_000)) is Answer.CALL


def test_one_failure_in_ten_does_not_open_it():
    health = Health()
    for _ in range(100):
        health = failed(health, AT, was_probe=False)
        for _ in range(9):
            health = succeeded(health, was_probe=False)
    assert ask(health, AT) is Answer.CALL


def test_exactly_one_probe_goes_out():
    health, then = opened(), at(FIRST_SECONDS)
    assert ask(health, then) is Answer.PROBE
    health = probing(health, then, 30)
    assert ask(health, then) is Answer.WAIT


def test_a_probe_whose_worker_died_is_followed_by_another():
    health = probing(opened(), at(FIRST_SECONDS), 30)
    assert ask(health, at(FIRST_SECONDS + 59)) is Answer.WAIT
    assert ask(health, at(FIRST_SECONDS + 61)) is Answer.PROBE


def test_a_probe_that_succeeds_closes_it():
    health = probing(opened(), at(FIRST_SECONDS), 30)
    assert succeeded(health, was_probe=True) == Health()


def test_a_probe_that_fails_keeps_it_open_for_longer_up_to_a_bound():
    health, now, spans = opened(), AT, []
    for _ in range(10):
        now = health.open_until
        health = failed(probing(health, now, 1), now, was_probe=True)
        spans.append((health.open_until - now).total_seconds())
    assert spans[0] == 2 * FIRST_SECONDS
    assert spans[-1] == MOST_SECONDS and spans == sorted(spans)


def test_late_news_from_before_it_opened_changes_nothing():
    health = opened()
    assert failed(health, at(1), was_probe=False) == health
    assert succeeded(health, was_probe=False) == health


def test_who_is_turned_away_comes_after_it_one_by_one():
    health, dues = opened(), []
    for _ in range(50):
        health, due = turned_away(health, AT, 0.5)
        dues.append(due)
    assert dues[0] > at(FIRST_SECONDS)
    assert dues == sorted(set(dues))
    assert dues[-1] - dues[0] > timedelta(seconds=2)
