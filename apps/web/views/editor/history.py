"""What was done to a draft, latest first; moments with a name; and a draft of one's own.

Everything here is a form: restoring and merging are operations of the log, so that undo takes them back.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_POST

from apps.blueprints import draft_log, draft_merging, drafts
from apps.blueprints.errors import DraftConflict
from apps.web.core.words import plural
from apps.web.draft_words import sentence
from apps.web.editing import Opened, open_blueprint
from apps.web.views.doors import page, principal_of
from apps.web.views.editor.shell import shell_of
from mirrorneuron.base.errors import InvalidInput
from mirrorneuron.base.ids import as_uuid

SHOWN = 50
"""Operations on one page."""


def history_context(opened: Opened, before: str = "") -> dict[str, Any]:
    """before: the number of an operation; those older than it are shown."""
    if opened.draft is None:
        return {"lines": [], "states": [], "older": None}
    rows = drafts.history_of(opened.draft, before=_number(before), limit=SHOWN + 1)
    lines = [
        {"seq": row.seq, "words": sentence(row), "at": row.at, "undone": row.undone} for row in rows[:SHOWN]
    ]
    return {
        "lines": lines,
        "states": drafts.states_of(opened.draft),
        "older": lines[-1]["seq"] if len(rows) > SHOWN else None,
        "has_private": opened.private or drafts.has_private(opened.principal, opened.name),
    }


@require_POST
def name_state(request: HttpRequest, name: str) -> HttpResponse:
    """Give the draft as it is now a name to come back to."""
    private = _is_private(request)
    try:
        made = draft_log.name_state(
            principal_of(request), name, request.POST.get("title", ""), private=private
        )
    except InvalidInput as wrong:
        opened = open_blueprint(principal_of(request), name, private=private)
        context = shell_of(opened, "history") | history_context(opened) | {"refused": str(wrong)}
        return page(request, "editor/history.html", context, status=422)
    messages.success(request, f"“{made.title}” is kept. It can be brought back at any time.")
    return _back(name, private)


@require_POST
def restore(request: HttpRequest, name: str) -> HttpResponse:
    """Bring back what the draft was after operation `seq`, or the named state `state`."""
    private = _is_private(request)
    state: UUID | None = as_uuid(request.POST.get("state", ""))
    seq = _number(request.POST.get("seq", "")) if state is None else None
    draft_log.restore(principal_of(request), name, seq=seq, state=state, private=private)
    messages.success(request, "The draft is as it was then. Undo takes that back.")
    return _back(name, private)


@require_POST
def merge(request: HttpRequest, name: str) -> HttpResponse:
    """Bring one's private draft into the shared one; what conflicts stops it, or is left out when asked."""
    principal = principal_of(request)
    try:
        done, skipped = draft_merging.merge(principal, name, skip_conflicts=request.POST.get("skip") == "on")
    except DraftConflict as conflict:
        opened = open_blueprint(principal, name, private=True)
        context = shell_of(opened, "history") | history_context(opened)
        context |= {"conflicts": conflict.conflicts, "then": request.POST.get("then", "")}
        return page(request, "editor/history.html", context, status=409)
    count = len(done.rows)
    said = f"{plural(count, 'change')} of yours {'is' if count == 1 else 'are'} in the shared draft now."
    said += " Undo takes that back." if count else ""
    if skipped:
        said += f" {len(skipped)} were left out, as you asked."
    messages.success(request, said)
    if request.POST.get("then") == "publish":
        return redirect("web:blueprints-publish", name)
    return _back(name, private=False)


@require_POST
def discard(request: HttpRequest, name: str) -> HttpResponse:
    """Throw one's private draft away; the shared one stays as it is."""
    draft_merging.discard(principal_of(request), name)
    messages.success(request, "Your private draft is gone. This is the shared one.")
    return _back(name, private=False)


def _is_private(request: HttpRequest) -> bool:
    return request.POST.get("private") == "1"


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) < 10 else None


def _back(name: str, private: bool) -> HttpResponse:
    query = "?tab=history&private=1" if private else "?tab=history"
    return redirect(reverse("web:blueprints-edit", args=[name]) + query)
