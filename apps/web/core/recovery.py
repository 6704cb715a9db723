"""What a person can do with a step that stands still or has ended, and what that means, in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from apps.web.core.words import humanise, plural

NAMED_AT_MOST = 6


@dataclass(frozen=True)
class Option:
    """One way on, as the step's panel offers it."""

    verb: str
    """retry | skip | fork"""
    mode: str
    """Of a fork: redo | edit | go_on."""
    label: str
    means: str
    is_main: bool = False


def options(
    run_status: str, step: Mapping[str, Any], *, has_question: bool, is_required: bool = False
) -> list[Option]:
    """The ways on from a step.

    has_question: a person is asked already, so nothing else is the main way. is_required: the contract wants
    this decided by people, so nothing may be put in its place.
    """
    status, found = step["status"], []
    if takes_back(step["path"]):
        if status == "waiting" and step["reason"] == "person":
            means = "Takes back what was done once more."
            found.append(Option("retry", "", "Try again…", means, is_main=not has_question))
        if status in ("waiting", "in_doubt"):
            means = "It is not taken back here; the rest goes on."
            found.append(Option("skip", "", "Go on without…", means))
        return found
    is_open = run_status not in ("succeeded", "cancelled", "cancelling")
    if status == "failed" and is_open:
        for_good = bool((step.get("error") or {}).get("permanent"))
        means = "The run goes on from here. What has happened is not sent again."
        if for_good:
            means = "It fails again unless what it works with was put right. " + means
        found.append(Option("retry", "", "Try again…", means, is_main=not has_question and not for_good))
    if status in ("failed", "waiting", "in_doubt", "blocked") and is_open and not is_required:
        means = "The run goes on with a value that you give instead of its output."
        found.append(Option("skip", "", "Skip with a value…", means))
    if status in ("succeeded", "failed", "skipped", "cancelled"):
        means = "A new run does this step and all that follows again. This run stays as it is."
        found.append(Option("fork", "redo", "Do it again in a new run…", means))
    if status in ("succeeded", "failed", "skipped") and not is_required:
        means = "A new run takes over what is done, with an output of your own for this step."
        found.append(Option("fork", "edit", "Give it another output…", means))
    return found


def takes_back(path: str) -> bool:
    """Whether a step takes back what another one has done."""
    return path.endswith("/undo")


def node_of(path: str) -> str:
    """The id of a step's node."""
    return path.removesuffix("/undo").rpartition("/")[2].partition("[")[0]


def consequences(told: Mapping[str, Any], title_of: Callable[[str], str]) -> list[str]:
    """What a preview says, as sentences with the steps' own titles. title_of: by path."""

    def named(name: str) -> str:
        return listed([f"“{title_of(path)}”" for path in told.get(name) or []])

    def effects(name: str) -> str:
        return listed([f"{humanise(e['tool'])} in “{title_of(e['step'])}”" for e in told.get(name) or []])

    lines = _fork_lines(told, named) if told["action"] == "fork" else _step_lines(told, named)
    for name, sentence in (
        ("effects_kept", "Has happened already and is not sent again: {}."),
        ("effects_inherited", "Takes over what has happened, without sending it again: {}."),
        ("effects_repeat", "Asks a person before this is done a second time: {}."),
        ("effects_asked_again", "Asks a person before this is sent after all: {}."),
        ("effects_abandoned", "Gives up what nobody knows the outcome of: {}."),
    ):
        if said := effects(name):
            lines.append(sentence.format(said))
    if told["action"] == "fork" and not told.get("effects_repeat"):
        lines.append("Does nothing a second time.")
    if named("questions_closed"):
        lines.append(f"The question about {named('questions_closed')} leaves the inbox unanswered.")
    if named("questions_reopened"):
        lines.append(f"People are asked again about {named('questions_reopened')}.")
    if told.get("cost_unknown") or told.get("cost_usd", "0") != "0":
        least = "at least " if told.get("cost_unknown") else ""
        lines.append(f"What is done again has cost {least}${told['cost_usd']} so far.")
    return lines


def _step_lines(told: Mapping[str, Any], named: Callable[[str], str]) -> list[str]:
    lines = []
    if told["action"] == "retry":
        lines.append(f"Tries again, with a fresh count of tries: {named('tried_again')}.")
    elif named("tried_again"):
        lines.append(f"Tries again what failed besides: {named('tried_again')}.")
    if told.get("reopened"):
        lines.append("The run, which has failed, goes on.")
    if named("restored"):
        lines.append(f"Goes on as well, having been stopped for the failure: {named('restored')}.")
    if named("starts"):
        lines.append(f"Starts now: {named('starts')}.")
    lines.append(f"Keeps the results of {plural(len(told['kept']), 'finished step')}.")
    return lines


def _fork_lines(told: Mapping[str, Any], named: Callable[[str], str]) -> list[str]:
    lines = ["Starts a new run. This one stays as it is."]
    if told["kept"]:
        lines.append(f"Keeps {plural(len(told['kept']), 'result')}: {named('kept')}.")
    if named("edited"):
        lines.append(f"Goes on from your output of {named('edited')}.")
    if named("redone"):
        lines.append(f"Does again: {named('redone')}.")
    if named("starts"):
        lines.append(f"Begins with: {named('starts')}.")
    if named("left_out"):
        lines.append(f"Leaves out, because the version goes another way: {named('left_out')}.")
    if named("changed"):
        lines.append(f"Keeps the old result although the version has changed the step: {named('changed')}.")
    return lines


def listed(names: list[str]) -> str:
    """A list a person can read, however long it is."""
    shown = ", ".join(names[:NAMED_AT_MOST])
    more = len(names) - NAMED_AT_MOST
    return f"{shown} and {more:,} more" if more > 0 else shown
