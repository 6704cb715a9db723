"""When a schedule is due: each time once, in order, whatever the clocks do and whenever somebody looks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from apps.runs.core.schedule import (
    CATCH_UP_AT_MOST,
    CatchUp,
    Overlap,
    Times,
    due,
    in_words,
    problems_of,
    turn,
)

ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "America/St_Johns",
]
CRONS = [
    "30 2 * * *", "0 9 * * 1-5", "*/15 * * * *", "0 * * * *", "0 0 1 * *", "15 1,2,3 * * *", "0 3 29 2 *",
    "*/20 2 * * *", "0 */2 * * 0", "59 23 L * *",
]  # fmt: skip
moments = st.datetimes(datetime(2024, 1, 1), datetime(2027, 12, 31)).map(lambda d: d.replace(tzinfo=UTC))
zones = st.sampled_from(ZONES)
crons = st.sampled_from(CRONS)
every = st.integers(10, 90_000)


def times(draw_cron: str | None, zone: str, seconds: int) -> Times:
    return Times(cron=draw_cron, zone=zone) if draw_cron else Times(every_seconds=seconds)


kinds = st.builds(times, st.one_of(st.none(), crons), zones, every)


def berlin(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("Europe/Berlin"))


@given(kinds, moments)
def test_times_ascend_and_each_is_named_once(t: Times, moment: datetime):
    found = list(islice(t.after(moment), 8))
    assert found and all(at > moment for at in found)
    assert all(a < b for a, b in pairwise(found))


@given(kinds, moments, st.integers(0, 5), st.floats(0, 1))
@example(Times(cron="30 2 * * *", zone="Europe/Berlin"), datetime(2026, 10, 24, 22, tzinfo=UTC), 0, 0.9)
def test_it_does_not_matter_when_somebody_looks(t: Times, moment: datetime, which: int, part: float):
    """Two schedulers that look at different moments name the same times."""
    found = list(islice(t.after(moment), 7))
    a, b = found[which], found[which + 1]
    between = a + (b - a) * min(part, 0.999)
    assert t.next(between) == b
    assert t.next(a) == b


@pytest.mark.parametrize("catch_up", list(CatchUp))
@given(t=kinds, start=moments, looks=st.lists(st.integers(1, 400_000), min_size=1, max_size=5))
@settings(max_examples=60)
def test_looking_often_or_seldom_neither_repeats_nor_loses(
    catch_up, t: Times, start: datetime, looks: list[int]
):
    next_at, moment = t.next(start), start
    started: list[datetime] = []
    skipped, more = 0, False
    for seconds in looks:
        moment += timedelta(seconds=seconds)
        told = due(t, next_at, moment, catch_up)
        assert all(next_at <= at <= moment for at in told.starts)
        assert told.next_at is None or told.next_at > moment
        more = more or len(told.starts) + told.skipped > CATCH_UP_AT_MOST
        started += told.starts
        skipped += told.skipped
        next_at = told.next_at
    assert started == sorted(set(started)), "no time twice"
    assume(not more)
    every_time = []
    for at in t.after(start):
        if at > moment:
            break
        every_time.append(at)
    assert len(started) + skipped == len(every_time), "no time unaccounted for"
    if catch_up is CatchUp.ALL:
        assert started == every_time


@given(
    st.lists(st.integers(0, 50), max_size=6), st.lists(st.integers(0, 50), max_size=6),
    st.booleans(), st.sampled_from(Overlap),
)  # fmt: skip
def test_a_turn_accounts_for_every_time(wanted, held, busy, overlap):
    base = datetime(2026, 1, 1, tzinfo=UTC)
    as_times = [base + timedelta(hours=h) for h in wanted]
    as_held = [base + timedelta(hours=h) for h in sorted(set(held))]

    chosen = turn(as_times, as_held, busy, overlap)

    total = len({*as_times, *as_held})
    assert (chosen.start is not None) + len(chosen.held) + chosen.skipped == total
    if busy and overlap is not Overlap.CANCEL_OTHER:
        assert chosen.start is None
    if overlap is Overlap.QUEUE:
        assert chosen.skipped == 0
    else:
        assert not chosen.held


def test_the_hour_that_happens_twice_fires_once():
    daily = Times(cron="30 2 * * *", zone="Europe/Berlin")
    before = berlin("2026-10-24T12:00")

    first, second = islice(daily.after(before), 2)

    assert first == datetime(2026, 10, 25, 0, 30, tzinfo=UTC), "the first of the two half past two"
    assert second == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)
    assert daily.next(datetime(2026, 10, 25, 1, 10, tzinfo=UTC)) == second, "asked between the two"


def test_the_hour_that_is_left_out_moves_and_is_not_lost():
    daily = Times(cron="30 2 * * *", zone="Europe/Berlin")

    first, second = islice(daily.after(berlin("2026-03-28T12:00")), 2)

    assert first == datetime(2026, 3, 29, 1, 0, tzinfo=UTC), "03:00, where the gap ends"
    assert second == datetime(2026, 3, 30, 0, 30, tzinfo=UTC)


def test_every_quarter_of_an_hour_follows_real_time_through_a_change():
    quarterly = Times(cron="*/15 * * * *", zone="Europe/Berlin")

    found = list(islice(quarterly.after(berlin("2026-10-25T01:50")), 16))

    assert {(b - a) for a, b in pairwise(found)} == {timedelta(minutes=15)}


def test_three_missed_hours_by_policy():
    hourly = Times(cron="0 * * * *")
    first, at = datetime(2026, 5, 1, 9, tzinfo=UTC), datetime(2026, 5, 1, 11, 30, tzinfo=UTC)

    def hours(policy: CatchUp) -> list[int]:
        return [t.hour for t in due(hourly, first, at, policy).starts]

    assert hours(CatchUp.SKIP) == []
    assert hours(CatchUp.ONE) == [11]
    assert hours(CatchUp.ALL) == [9, 10, 11]


def test_a_minute_late_is_in_time():
    hourly = Times(cron="0 * * * *")
    nine = datetime(2026, 5, 1, 9, tzinfo=UTC)

    assert due(hourly, nine, nine + timedelta(seconds=59), CatchUp.SKIP).starts == (nine,)
    assert due(hourly, nine, nine + timedelta(seconds=61), CatchUp.SKIP).starts == ()


def test_a_year_without_a_look_is_bounded():
    minutely = Times(cron="* * * * *")
    first = datetime(2025, 1, 1, tzinfo=UTC)

    told = due(minutely, first, first + timedelta(days=365), CatchUp.ALL)

    assert len(told.starts) == CATCH_UP_AT_MOST
    assert told.starts[-1] == first + timedelta(days=365)


@pytest.mark.parametrize(
    ("cron", "seconds", "zone", "field"),
    [
        ("", None, "UTC", "cron"),
        ("* * * * *", 60, "UTC", "cron"),
        ("* * * *", None, "UTC", "cron"),
        ("0 0 0 * * *", None, "UTC", "cron"),
        ("61 * * * *", None, "UTC", "cron"),
        ("0 0 30 2 *", None, "UTC", "cron"),
        ("", 9, "UTC", "every"),
        ("0 9 * * *", None, "Mars/Olympus", "time_zone"),
        ("0 9 * * *", None, "../../etc/passwd", "time_zone"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_field(cron, seconds, zone, field):
    assert list(problems_of(cron, seconds, zone)) == [field]


def test_times_are_told_in_words():
    assert in_words("30 9 * * 1", None, "Europe/Berlin") == "At 09:30 on Monday, Europe/Berlin time"
    assert in_words("", 5400, "UTC") == "Every 90 minutes"
    assert in_words("", 86400, "UTC") == "Every day"
