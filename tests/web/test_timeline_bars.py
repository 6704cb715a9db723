"""Where a step's time went, drawn honestly."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from apps.web.core.timeline import ENDS, STARTS, Mark, StepTimes, bars, stretches, ticks, totals

START = datetime(2026, 5, 4, 9, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def row(path: str, status: str = "succeeded", *times: float | None) -> StepTimes:
    queued, started, ended = (at(t) if t is not None else None for t in (*times, None, None, None)[:3])
    return StepTimes(path, status, queued, started, ended)


def test_queue_work_and_waiting_for_a_person_are_told_apart() -> None:
    marks = [
        Mark("ask", "step.started", at(5), queued_seconds=4),
        Mark("ask", "step.waiting", at(6)),
        Mark("ask", "approval.requested", at(6)),
        Mark("ask", "approval.decided", at(66)),
        Mark("ask", "step.succeeded", at(66)),
    ]
    did = stretches([row("ask", "succeeded", 1, 5, 66)], marks)["ask"]
    assert [(s.kind, (s.end - s.start).total_seconds()) for s in did if s.end and s.end > s.start] == [
        ("queue", 4),
        ("work", 1),
        ("wait", 60),
    ]


def test_each_attempt_is_a_bar_of_its_own_and_says_how_it_ended() -> None:
    marks = [
        Mark("send", "step.started", at(0)),
        Mark("send", "attempt.lost", at(4)),
        Mark("send", "step.started", at(6)),
        Mark("send", "step.retrying", at(7)),
        Mark("send", "timer.fired", at(9)),
        Mark("send", "step.started", at(9)),
        Mark("send", "step.succeeded", at(10)),
    ]
    did = stretches([row("send", "succeeded", 0, 9, 10)], marks)
    work = [bar for bar in bars(did, START, at(10))["send"] if bar.kind == "work"]
    assert [bar.fate for bar in work] == ["lost", "failed", ""]
    assert "try 3" in work[2].words


def test_a_step_that_still_runs_reaches_to_now() -> None:
    did = stretches([row("draft", "running", 0, 2)], [Mark("draft", "step.started", at(2), 2)])
    bar = bars(did, START, at(10))["draft"][-1]
    assert bar.open and bar.x + bar.width == 100


def test_a_step_without_entries_falls_back_to_its_own_times() -> None:
    did = stretches([row("draft", "failed", 0, 2, 5), row("later", "blocked")], [])
    assert [(s.kind, s.fate) for s in did["draft"]] == [("queue", ""), ("work", "failed")]
    assert did["later"] == []


def test_a_step_that_took_no_time_can_still_be_seen() -> None:
    did = stretches([row("quick", "succeeded", 0, 0, 0)], [])
    assert bars(did, START, at(3600))["quick"][0].width > 0.5


kinds = st.sampled_from([*STARTS, *ENDS, "model.requested", "effect.committed"])


@given(st.lists(st.tuples(kinds, st.floats(0, 1000), st.floats(0, 50)), max_size=30))
def test_any_ledger_gives_bars_inside_the_axis_and_no_negative_time(
    told: list[tuple[str, float, float]],
) -> None:
    marks = [Mark("s", kind, at(when), queued) for kind, when, queued in sorted(told, key=lambda t: t[1])]
    did = stretches([row("s", "running", 0, 1)], marks)
    for bar in bars(did, START, at(1000))["s"]:
        assert 0 <= bar.x <= 100 and 0 < bar.width <= 100 and bar.x + bar.width <= 100.01
    assert all(seconds >= 0 for seconds in totals(did["s"], at(1000)).values())


def test_the_axis_has_three_labels_from_nought_to_the_end() -> None:
    assert ticks(START, at(120)) == [(0, "0"), (50, "1 min"), (100, "2 min")]
