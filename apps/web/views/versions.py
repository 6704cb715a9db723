"""Versions of a blueprint: compare two states, publish the draft, restore, fork."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from apps.blueprints import draft_log, drafts, publishing, reviews
from apps.blueprints import selectors as blueprints
from apps.blueprints.comparing import (
    DRAFT,
    NOTHING,
    PRIVATE,
    Comparison,
    Side,
    compare,
    comparison,
    merging,
    newest,
    nothing,
    of_version,
    side,
)
from apps.blueprints.core.reviewing import warning_before_publishing
from apps.blueprints.errors import BlueprintInvalid, DraftMoved, PrivateDraft, ReviewStands
from apps.web.comments import Comments, comments_on
from apps.web.differences import counted, picture_of, sections_of, view_of_both
from apps.web.draft_words import happened_since
from apps.web.views.doors import page, principal_of
from apps.workspaces.access import Principal
from apps.workspaces.core.roles import Permission
from mirrorneuron.base.errors import InvalidInput, NotFound
from mirrorneuron.base.safejson import fingerprint


@require_safe
def index(request: HttpRequest, name: str) -> HttpResponse:
    """Every version with its notes, and the reviews that led there."""
    principal = principal_of(request)
    blueprint = blueprints.blueprint_for(principal, name)
    found = list(
        blueprints.versions_for(principal, name)
        .filter(number__isnull=False)
        .select_related("created_by")
        .order_by("-number")
    )
    before = [*(one.number for one in found[1:]), None][: len(found)]
    context = {
        "blueprint": blueprint,
        "rows": [{"version": one, "before": old} for one, old in zip(found, before, strict=True)],
        "reviews": reviews.reviews_for(principal, name)[:20],
        "may_edit": principal.may(Permission.EDIT) and blueprint.archived_at is None,
    }
    return page(request, "blueprints/versions.html", context)


@require_safe
def compare_page(request: HttpRequest, name: str) -> HttpResponse:
    principal = principal_of(request)
    try:
        found = compare(principal, name, request.GET.get("from", ""), request.GET.get("to", ""))
    except InvalidInput as wrong:
        raise NotFound(wrong.message, next=wrong.next) from wrong
    blueprint = blueprints.blueprint_for(principal, name)
    context = {
        "blueprint": blueprint,
        "choices": _choices(request, name, found),
        "latest": newest(principal, name),
        "is_private": found.after.reference == PRIVATE,
        "against_shared": found.after.reference == PRIVATE and found.before.reference == DRAFT,
        **shown(principal, found),
    }
    if request.GET.get("canvas") == "1":
        context["view"] = view_of_both(found)
    return page(request, "blueprints/compare.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
def publish(request: HttpRequest, name: str) -> HttpResponse:
    """What publishing the draft would change; the button publishes exactly what is shown.

    A draft of one's own is never published itself: its page says so, and what merging it would change.
    """
    principal = principal_of(request)
    principal.require(Permission.EDIT)
    blueprints.blueprint_for(principal, name)
    private = request.GET.get("private") == "1"
    if request.method != "POST":
        return _merge_page(request, name) if private else _publish_page(request, name)
    seen = request.POST.get("draft_version", "")
    try:
        version = publishing.publish_draft(
            principal,
            name,
            draft_version=int(seen) if seen.isdecimal() and len(seen) < 10 else -1,
            draft_text=request.POST.get("draft_text", ""),
            notes=request.POST.get("notes", "").strip()[:4000],
            anyway=request.POST.get("anyway") == "on",
            private=private,
        )
    except PrivateDraft:
        return _merge_page(request, name, status=409)
    except BlueprintInvalid:
        return _publish_page(request, name, status=422)
    except DraftMoved as moved:
        return _publish_page(request, name, moved=moved, status=409)
    except ReviewStands as stands:
        return _publish_page(request, name, stands=stands, status=409)
    messages.success(request, f"Version {version.number} is published. New runs use it.")
    return redirect("web:blueprints-item", name)


@require_POST
def restore(request: HttpRequest, name: str, number: int) -> HttpResponse:
    draft_log.restore(principal_of(request), name, version=number)
    messages.success(request, f"The draft is version {number} again. Undo takes that back.")
    return redirect("web:blueprints-compare", name)


@require_POST
def fork(request: HttpRequest, name: str) -> HttpResponse:
    """Copy a blueprint of the workspace or the gallery under a new name, and open the copy."""
    number = request.POST.get("version", "")
    made = publishing.fork(
        principal_of(request),
        name,
        number=int(number) if number.isdecimal() and len(number) < 10 else None,
        to=request.POST.get("to", "").strip(),
    )
    messages.success(
        request, f"This is your copy of {name}. Change what you like; nothing runs until you say so."
    )
    return redirect("web:blueprints-edit", made.name)


def shown(principal: Principal, found: Comparison) -> dict[str, Any]:
    """What the partials of a difference need."""
    return {
        "comments": _comments(principal, found),
        "comparison": found,
        "differing": sections_of(found),
        "count": counted(found),
        "picture": picture_of(found),
    }


def _comments(principal: Principal, found: Comparison) -> Comments:
    """Where the newer side is a draft, or the text a review is about."""
    reference = found.after.reference
    if reference in (DRAFT, PRIVATE):
        draft = drafts.draft_for(principal, found.name, private=reference == PRIVATE)
        return comments_on(principal, found.name, draft)
    return comments_on(principal, found.name) if reference.startswith(DRAFT) else {}


def _merge_page(request: HttpRequest, name: str, *, status: int = 200) -> HttpResponse:
    principal = principal_of(request)
    found, conflicts = merging(principal, name)
    context = {
        "blueprint": blueprints.blueprint_for(principal, name),
        "conflicts": conflicts,
        "latest": newest(principal, name),
        **shown(principal, found),
    }
    return page(request, "blueprints/publish_private.html", context, status=status)


def _publish_page(
    request: HttpRequest,
    name: str,
    *,
    moved: DraftMoved | None = None,
    stands: ReviewStands | None = None,
    status: int = 200,
) -> HttpResponse:
    principal = principal_of(request)
    draft = side(principal, name, DRAFT)
    latest = newest(principal, name)
    found = comparison(name, of_version(latest) if latest else nothing(name), draft)
    review = reviews.current_review(principal, name)
    warning = ""
    if review is not None:
        warning = warning_before_publishing(
            review.state, changed_since=reviews.has_changed(review, draft.source)
        )
    errors = [problem for problem in draft.problems if problem.level == "error"]
    context = {
        "blueprint": blueprints.blueprint_for(principal, name),
        "next_number": (latest.number or 0) + 1 if latest else 1,
        "latest": latest,
        "draft": draft,
        "draft_text": fingerprint(draft.source),
        "errors": errors,
        "warnings": [problem for problem in draft.problems if problem.level != "error"],
        "review": review,
        "review_warning": warning,
        "stands": stands,
        "moved": moved,
        "since": happened_since(principal, name, moved.seen) if moved else None,
        "notes": request.POST.get("notes", ""),
        "nothing_new": latest is not None and not found.difference,
        "people": reviews.possible_reviewers(principal),
        **shown(principal, found),
    }
    return page(request, "blueprints/publish.html", context, status=status)


def _choices(request: HttpRequest, name: str, found: Comparison) -> list[tuple[str, str]]:
    principal = principal_of(request)
    numbers = (
        blueprints.versions_for(principal, name)
        .filter(number__isnull=False)
        .order_by("-number")
        .values_list("number", flat=True)[:200]
    )
    choices = [(str(n), f"Version {n}") for n in numbers]
    if principal.may(Permission.EDIT) and drafts.has_private(principal, name):
        choices = [(DRAFT, "The shared draft"), (PRIVATE, "Your private draft"), *choices]
    else:
        choices = [(DRAFT, "The draft"), *choices]
    known = {value for value, _ in choices}
    sides: list[Side] = [found.before, found.after]
    choices += [(one.reference, one.label) for one in sides if one.reference not in {*known, NOTHING}]
    if found.before.reference == NOTHING or found.after.reference == NOTHING:
        choices.append((NOTHING, "Nothing"))
    return choices
