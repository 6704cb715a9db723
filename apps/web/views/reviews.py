"""Reviews of a draft: ask, comment at steps, approve or ask for changes, withdraw."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from apps.blueprints import reviews
from apps.blueprints import selectors as blueprints
from apps.blueprints.comparing import DRAFT, comparison, nothing, of_text, of_version, side
from apps.blueprints.core.reviewing import Verdict
from apps.blueprints.errors import DraftMoved, PrivateDraft
from apps.blueprints.models import Review
from apps.web.draft_words import happened_since
from apps.web.views.doors import page, principal_of
from apps.web.views.versions import shown
from apps.workspaces.core.roles import Permission
from mirrorneuron.base.errors import InvalidInput, NotFound

ACTS = ("answer", "comment", "withdraw", "resolve", "reopen")


@require_POST
def ask(request: HttpRequest, name: str) -> HttpResponse:
    seen = request.POST.get("draft_version", "")
    try:
        review = reviews.ask_review(
            principal_of(request),
            name,
            request.POST.getlist("people"),
            draft_version=int(seen) if seen.isdecimal() and len(seen) < 10 else -1,
            draft_text=request.POST.get("draft_text", ""),
            note=request.POST.get("note", ""),
            private=request.GET.get("private") == "1",
        )
    except PrivateDraft as own:
        messages.warning(request, f"{own.message} Nobody was asked.")
        return redirect(reverse("web:blueprints-publish", args=[name]) + "?private=1")
    except DraftMoved as moved:
        messages.warning(request, f"{moved.message} Nobody was asked; look again first.")
        return redirect("web:blueprints-publish", name)
    except InvalidInput as wrong:
        messages.warning(request, f"{wrong.message} {wrong.next}")
        return redirect(reverse("web:blueprints-publish", args=[name]) + "#ask-title")
    messages.success(request, "Asked. They find the review at the top of Blueprints.")
    return redirect("web:blueprints-review", name, review.id)


@require_safe
def item(request: HttpRequest, name: str, review_id: str) -> HttpResponse:
    return _page(request, name, review_id)


@require_POST
def act(request: HttpRequest, name: str, review_id: str, verb: str) -> HttpResponse:
    """One of ACTS. What was written stays in the form when it cannot be taken."""
    if verb not in ACTS:
        raise NotFound(f"There is nothing called {verb!r} to do with a review.")
    principal = principal_of(request)
    given = request.POST
    try:
        if verb == "answer":
            reviews.answer_review(principal, review_id, given.get("verdict", ""), given.get("words", ""))
        elif verb == "comment":
            reviews.comment_on_review(principal, review_id, given.get("text", ""), node=given.get("node", ""))
        elif verb == "withdraw":
            reviews.withdraw_review(principal, review_id)
            messages.success(request, "Withdrawn. The draft stays as it is.")
        else:
            reviews.resolve_comment(
                principal, review_id, given.get("comment", ""), resolved=verb == "resolve"
            )
    except InvalidInput as wrong:
        return _page(request, name, review_id, wrong=wrong, verb=verb, status=422)
    return redirect(
        reverse("web:blueprints-review", args=[name, review_id]) + ("#comments" if verb != "answer" else "")
    )


def _page(
    request: HttpRequest,
    name: str,
    review_id: str,
    *,
    wrong: InvalidInput | None = None,
    verb: str = "",
    status: int = 200,
) -> HttpResponse:
    principal = principal_of(request)
    review = reviews.review_for(principal, review_id)
    asked = of_text(
        name,
        review.source,
        label=f"Draft {review.draft_version}",
        reference=f"draft {review.draft_version}",
        draft_version=review.draft_version,
    )
    base = of_version(review.base) if review.base else nothing(name)
    found = comparison(name, base, asked)
    answers = sorted(review.answers.all(), key=lambda one: str(one.person))
    mine = next((one for one in answers if one.person_id == principal.user.id), None)
    steps = reviews.nodes_of(review)
    context = {
        "blueprint": blueprints.blueprint_for(principal, name),
        "review": review,
        "answers": answers,
        "mine": mine,
        "is_asker": review.asked_by_id == principal.user.id,
        "is_open": review.closed_at is None,
        "may_edit": principal.may(Permission.EDIT),
        "may_comment": review.closed_at is None and (principal.may(Permission.EDIT) or mine is not None),
        "groups": _groups(review, steps),
        "steps": list(steps.items()),  # A step may be called "items".
        "at": request.POST.get("node", request.GET.get("node", "")),
        "wrong": wrong,
        "verb": verb,
        "given": request.POST,
        "verdicts": Verdict,
        **_since(request, name, review),
        **shown(principal, found),
    }
    return page(request, "blueprints/review.html", context, status=status)


def _groups(review: Review, steps: dict[str, str]) -> list[dict[str, Any]]:
    """Comments by what they are about: the whole, then steps in their order, then those that are gone."""
    found: dict[str, list[Any]] = {}
    for comment in sorted(review.comments.all(), key=lambda one: one.id):
        found.setdefault(comment.node, []).append(comment)
    order = ["", *steps, *(path for path in found if path not in steps)]
    return [
        {"node": path, "title": steps.get(path, path) if path else "The whole", "comments": found[path]}
        for path in dict.fromkeys(order)
        if path in found
    ]


def _since(request: HttpRequest, name: str, review: Review) -> dict[str, Any]:
    """Whether the draft has moved on since it was asked, and by what."""
    if review.closed_at is not None:
        return {"changed": False}
    draft = side(principal_of(request), name, DRAFT)
    if not reviews.has_changed(review, draft.source):
        return {"changed": False}
    return {
        "changed": True,
        "draft": draft,
        "since": happened_since(principal_of(request), name, review.draft_version),
    }
