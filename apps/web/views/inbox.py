"""The inbox: what will happen, why, the exact draft, and the answer. Only a POST decides."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_http_methods, require_safe

from apps.approvals import selectors, services
from apps.approvals.core.diff import as_text, line_diff
from apps.approvals.core.edits import patch_between
from apps.approvals.core.states import Verb
from apps.approvals.models import ApprovalRequest
from apps.blueprints import selectors as blueprints
from apps.web.core import words
from apps.web.forms import Submission, argument_fields, read_edits
from apps.web.run_page import notes_of
from apps.web.views.doors import in_my_workspaces, page, principal_of
from mirrorneuron.base.errors import Conflict, InvalidInput

VIEWS = (("open", "Open"), ("mine", "For me"), ("decided", "Decided"))
SHOWN = 200
DOING = frozenset({"send", "write", "post", "publish", "refund", "pay", "book", "create", "delete"})
"""First words of tool names that read well after "Approve and"."""
SAID = {
    Verb.APPROVE: "Approved “{title}”",
    Verb.REJECT: "Rejected “{title}”",
    Verb.REQUEST_CHANGES: "Sent back “{title}”",
    Verb.ANSWER: "Answered “{title}”",
}


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    shown = request.GET.get("show", "open")
    return page(request, "inbox/detail.html", _list(request, shown) | {"card": None})


@require_safe
def item(request: HttpRequest, request_id: UUID) -> HttpResponse:
    """Opening a question changes nothing, whoever or whatever opens it."""
    return _card(request, _question(request, request_id))


@require_http_methods(["GET", "HEAD", "POST"])
def decide(request: HttpRequest, request_id: UUID) -> HttpResponse:
    """The answer. Afterwards the next open question, or the run when nothing else waits.

    Looking at the address, as after a reload or a sign-in, leads to the card and decides nothing.
    """
    if request.method != "POST":
        return redirect("web:inbox-item", request_id)
    principal = principal_of(request)
    question = _question(request, request_id)
    principal = principal_of(request)
    verb, part = request.POST.get("verb", ""), request.POST.get("part", "")
    given = Submission({})
    edits: Any = None
    if verb == Verb.APPROVE and part == "edit":
        given = read_edits(request, selectors.card(question)["fields"])
        if given.errors:
            return _card(request, question, part=part, given=given, status=422)
        # Values are whole; as a merge patch they also say what was taken out of an object.
        now = question.arguments
        edits = {name: patch_between(now.get(name), value) for name, value in given.values.items()}
    revision = request.POST.get("revision", "")
    try:
        decided = services.decide(
            principal,
            question.id,
            verb=verb,
            edits=edits,
            reason=request.POST.get("reason", ""),
            comment=request.POST.get("comment", ""),
            if_revision=int(revision) if revision.isdecimal() and len(revision) < 10 else None,
        )
    except InvalidInput as wrong:
        shown = Submission(given.values, wrong.fields)
        if verb == Verb.APPROVE and wrong.fields:
            part = "edit"  # The proposal cannot go out as it is: open it where it can be mended.
        return _card(request, question, part=part, given=shown, problem=wrong.message, status=422)
    except Conflict as late:
        messages.error(request, str(late))
        return _card(request, _question(request, request_id), status=late.status)
    return _next(request, decided, Verb(verb))


def _next(request: HttpRequest, decided: ApprovalRequest, verb: Verb) -> HttpResponse:
    said = SAID[verb].format(title=decided.title)
    if decided.is_pending:
        messages.success(request, f"{said}. Your approval counts; more people have to agree.")
        return redirect("web:inbox-item", decided.id)
    waiting = selectors.requests_for(principal_of(request)).first()
    if waiting is not None:
        messages.success(request, f"{said}. Here is the next one.")
        return redirect("web:inbox-item", waiting.id)
    messages.success(request, f"{said}.")
    return redirect("web:runs-detail", decided.run_id)


def _question(request: HttpRequest, request_id: UUID) -> ApprovalRequest:
    return in_my_workspaces(request, lambda principal: selectors.request_for(principal, request_id))


def _list(request: HttpRequest, shown: str) -> dict[str, Any]:
    principal = principal_of(request)
    shown = shown if shown in dict(VIEWS) else "open"
    found = selectors.requests_for(
        principal, state="decided" if shown == "decided" else "open", mine=shown == "mine"
    )
    if shown == "decided":
        found = found.order_by("-decided_at")
    asked = request.GET.get("q", "").strip()
    if asked:
        found = found.filter(title__icontains=asked)
    return {"rows": list(found[:SHOWN]), "shown": shown, "views": VIEWS, "asked": asked}


def _card(
    request: HttpRequest,
    question: ApprovalRequest,
    *,
    part: str = "",
    given: Submission | None = None,
    problem: str = "",
    status: int = 200,
) -> HttpResponse:
    card = selectors.card(question, principal_of(request))
    errors = given.errors if given else {}
    context = _list(request, request.GET.get("show", "open")) | {
        "question": question,
        "current": question.id,
        "blueprint_title": blueprints.document_of(question.run.version).metadata.title or card["blueprint"],
        "card": card,
        "fields": argument_fields(card["fields"], given) if Verb.APPROVE in card["verbs"] else (),
        "evidence": [{**one, "notes": notes_of(one["output"])} for one in card["evidence"]],
        "draft": _draft(card),
        "edited": [
            {"path": one["path"], "after": one["after"], "change": _change(one)}
            for one in card["edited"]
            if one["kind"] != "same"
        ],
        "part": part,
        "problem": problem,
        "errors": errors,
        "reason": request.POST.get("reason", ""),
        "comment": request.POST.get("comment", ""),
        "approve_words": _approve_words(question),
        "is_late": not question.is_pending,
    }
    return page(request, "inbox/detail.html", context, status=status)


def _draft(card: dict[str, Any]) -> list[dict[str, Any]]:
    """The exact arguments in their order, each with what changed since the round before."""
    changes = {change["path"]: change for change in card["diff"]}
    return [
        {
            "label": words.humanise(field["name"]),
            "name": field["name"],
            "value": field["value"],
            "change": _change(changes.get(field["name"])),
            "origins": _origins(field["labels"]),
            "edited": field["edited"],
        }
        for field in card["fields"]
        if field["present"]
    ]


def _change(change: dict[str, Any] | None) -> dict[str, Any] | None:
    """What changed in a field, words marked; a text of several lines line by line."""
    if change is None or change["kind"] != "changed":
        return None
    before, after = as_text(change["before"]), as_text(change["after"])
    lines = line_diff(before, after) if "\n" in before + after else ()
    return {"parts": change["parts"], "lines": lines}


def _origins(labels: list[str]) -> str:
    """Where an argument came from, for a person: tools and models, not people."""
    tools = [words.humanise(one.removeprefix("tool:")).lower() for one in labels if one.startswith("tool:")]
    return ", ".join(tools)


def _approve_words(question: ApprovalRequest) -> str:
    """The verb on the button: what approving does."""
    if not question.tool:
        return "Approve"
    verb = question.tool.partition("_")[0]
    return f"Approve and {verb}" if verb in DOING else "Approve"
