"""`mn approvals`: the inbox on the command line."""

from __future__ import annotations

import json
from typing import Any

import click

from apps.approvals import selectors, services, views
from apps.approvals.core.states import Verb
from mirrorneuron.cli.actor import acting
from mirrorneuron.cli.frame import Group, emit, read_text, table
from mirrorneuron.cli.waiting import go_on


@click.group(cls=Group)
def approvals() -> None:
    """Look at what waits for a person, and decide."""


@approvals.command("list")
@click.option("--state", default="open", show_default=True, help="open, decided, all, or one exact state.")
@click.option("--mine", is_flag=True, help="Only what I am asked.")
def list_(state: str, mine: bool) -> None:
    """List questions, what is due first at the head."""
    items = [views.request_view(r) for r in selectors.requests_for(acting(), state=state, mine=mine)]
    head = ("id", "title", "tool", "state", "run", "due")
    emit(
        {"items": items},
        lambda: table(
            [[r["id"], r["title"], r["tool"], r["state"], r["run"], (r["due_at"] or "")[:19]] for r in items],
            head,
            "Nothing waits for a decision." if state == "open" else "No questions.",
        ),
    )


@approvals.command()
@click.argument("id")
def show(id: str) -> None:
    """Show one question: what will happen, the exact draft, the evidence."""
    principal = acting()
    card = selectors.card(selectors.request_for(principal, id), principal)
    emit(card, lambda: _card(card))


def _card(card: dict[str, Any]) -> str:
    lines = [card["title"], f"  state: {card['state']}, revision {card['revision']}, round {card['round']}"]
    if card["effect"]:
        lines.append(f"  if approved: {card['effect']}")
    if card["feedback"]:
        lines.append(f"  asked for last time: {card['feedback']}")
    lines.append("")
    for name, value in card["arguments"].items():
        labels = ", ".join(card["labels"].get(name, []))
        lines.append(f"{name}  (from {labels}):" if labels else f"{name}:")
        text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
        lines += [f"    {line}" for line in text.splitlines() or [""]]
    for item in card["evidence"]:
        lines += ["", f"evidence from {item.get('title') or item.get('step')}:"]
        shown = json.dumps(item.get("output"), indent=2, ensure_ascii=False)
        lines += [f"    {line}" for line in shown.splitlines()[:40]]
    if card["why_not"]:
        lines += ["", card["why_not"]]
    elif card["verbs"]:
        lines += ["", f"You can: {', '.join(v.replace('_', '-') for v in card['verbs'])}"]
    return "\n".join(lines)


@approvals.command()
@click.argument("id")
def claim(id: str) -> None:
    """Tell others you are on it; lapses after 30 minutes."""
    request = services.claim(acting(), id)
    emit(views.request_view(request), f"You have claimed {request.title!r}.")


@approvals.command()
@click.argument("id")
def release(id: str) -> None:
    """Give a claim back."""
    request = services.release(acting(), id)
    emit(views.request_view(request), f"{request.title!r} is open again.")


_reason = click.option("--reason", default="", metavar="TEXT", help="Why; kept with the decision.")
_revision = click.option(
    "--revision", type=int, help="Decide only if the question is still at this revision."
)


@approvals.command()
@click.argument("id")
@click.option(
    "--edit", "edit_file", metavar="FILE", help="JSON merged over the proposal; - reads standard input."
)
@_reason
@_revision
def approve(id: str, edit_file: str | None, reason: str, revision: int | None) -> None:
    """Approve, as proposed or with edits."""
    _decide(id, Verb.APPROVE, reason, revision, edits=_edits(edit_file) if edit_file else None)


@approvals.command()
@click.argument("id")
@_reason
@_revision
def reject(id: str, reason: str, revision: int | None) -> None:
    """Reject; needs a reason."""
    _decide(id, Verb.REJECT, reason, revision)


@approvals.command("request-changes")
@click.argument("id")
@_reason
@_revision
def request_changes(id: str, reason: str, revision: int | None) -> None:
    """Send it back to be done again; the reason is what the next round is told."""
    _decide(id, Verb.REQUEST_CHANGES, reason, revision)


@approvals.command()
@click.argument("id")
@click.option("--edit", "edit_file", metavar="FILE", help="The answer as JSON; - reads standard input.")
@click.option("--text", default="", help="The answer as text.")
@_revision
def answer(id: str, edit_file: str | None, text: str, revision: int | None) -> None:
    """Answer a question that is not about an action."""
    _decide(id, Verb.ANSWER, "", revision, edits=_edits(edit_file) if edit_file else None, comment=text)


def _decide(
    id: str, verb: Verb, reason: str, revision: int | None, edits: Any = None, comment: str = ""
) -> None:
    request = services.decide(
        acting(), id, verb=verb.value, edits=edits, reason=reason, comment=comment, if_revision=revision
    )
    view = views.request_view(request)
    emit(view, f"{request.title!r} is {str(view['state']).replace('_', ' ')}.")
    if not request.is_pending:
        go_on(request.run_id)


def _edits(edit_file: str) -> Any:
    try:
        return json.loads(read_text("--edit", edit_file))
    except ValueError as exc:
        raise click.UsageError(f"--edit {edit_file} is not JSON: {exc}.") from exc
