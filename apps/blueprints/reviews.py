"""Asking others to look at a draft, and what they say: comments at steps, approval, wishes for changes.

A review is about one state of the draft, whose text it keeps; it says by itself when the draft has moved on.
One is current at a time: asking anew withdraws the one before.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Count, QuerySet

from apps.blueprints import draft_log, draft_texts, drafts
from apps.blueprints.core import canonical
from apps.blueprints.core.boundaries import all_nodes
from apps.blueprints.core.renames import followed
from apps.blueprints.core.reviewing import ReviewState, Verdict, standing
from apps.blueprints.errors import NotAReviewer, PrivateDraft, ReviewClosed, ReviewNotFound
from apps.blueprints.models import Draft, Review, ReviewAnswer, ReviewComment, Version
from apps.blueprints.selectors import blueprint_for
from apps.workspaces.access import Principal
from apps.workspaces.core.roles import Permission
from apps.workspaces.models import User
from apps.workspaces.selectors import members_of
from apps.workspaces.services import audit
from mirrorneuron.base.clock import now
from mirrorneuron.base.errors import InvalidInput
from mirrorneuron.base.ids import as_uuid
from mirrorneuron.base.safejson import fingerprint

LONGEST = 4000
"""Characters of a comment, a note, an answer."""


# --- reading ----------------------------------------------------------------------------------------------


def reviews_for(principal: Principal, name: str) -> QuerySet[Review]:
    """All reviews of a blueprint, the newest first."""
    return _all(principal).filter(blueprint=blueprint_for(principal, name)).order_by("-id")


def review_for(principal: Principal, review_id: Any) -> Review:
    """Raises ReviewNotFound for everybody else's."""
    principal.require(Permission.READ)
    identity = as_uuid(review_id)
    found = _all(principal).filter(id=identity).first() if identity else None
    if found is None:
        raise ReviewNotFound(f"There is no review {review_id}.", next="Open the blueprint's list of reviews.")
    return found


def current_review(principal: Principal, name: str) -> Review | None:
    """The review that counts for publishing, if anybody was asked."""
    return reviews_for(principal, name).filter(closed_at=None).first()


def reviews_waiting_for(principal: Principal) -> QuerySet[Review]:
    """Reviews this person was asked for and has not answered."""
    principal.require(Permission.READ)
    return (
        _all(principal)
        .filter(closed_at=None, answers__person=principal.user, answers__verdict=Verdict.NONE)
        .order_by("id")
    )


def possible_reviewers(principal: Principal) -> list[User]:
    """Members besides the person who asks: nobody reviews what they ask for themselves."""
    return [
        one.user for one in members_of(principal) if one.user.is_active and one.user_id != principal.user.id
    ]


def has_changed(review: Review, source: str) -> bool:
    """Whether this text means something else than what the review is about."""
    return source != review.source and meaning_of(source) != review.content_hash


def meaning_of(source: str) -> str:
    """One hash for all texts that mean the same; the text's own when it is no whole blueprint."""
    from apps.blueprints.services import check_source

    document = check_source(source).document
    return canonical.content_hash(document) if document is not None else fingerprint(source)


def _all(principal: Principal) -> QuerySet[Review]:
    return (
        Review.objects.filter(blueprint__workspace=principal.workspace)
        .select_related("blueprint", "asked_by", "base")
        .prefetch_related("answers__person", "comments__author", "comments__resolved_by")
    )


# --- asking -----------------------------------------------------------------------------------------------


@transaction.atomic
def ask_review(
    principal: Principal,
    name: str,
    people: Iterable[Any],
    *,
    draft_version: int,
    draft_text: str = "",
    note: str = "",
    private: bool = False,
) -> Review:
    """Ask people to look at the draft as it stands. The review before it, if any, is withdrawn.

    people: ids of members; never the one who asks. draft_version: what the person who asks has seen;
    draft_text: fingerprint of the text of it, from who has it.
    private: whether the person means a draft of their own, which nobody else can look at.
    Raises InvalidInput for nobody or for strangers, DraftMoved when somebody changed the draft since,
    PrivateDraft.
    """
    principal.require(Permission.EDIT)
    blueprint_for(principal, name)
    if private:
        raise PrivateDraft(name, "What others are asked to look at")
    draft = draft_log.locked_as_seen(principal, name, version=draft_version, text=draft_text)
    possible = {str(user.id): user for user in possible_reviewers(principal)}
    asked = [possible.get(str(one)) for one in dict.fromkeys(str(one) for one in people)]
    if not asked or None in asked:
        raise InvalidInput(
            "A review asks one or more other members of the workspace.",
            fields={"people": "Choose at least one person besides yourself."},
            next="Choose who should look at it.",
        )
    blueprint = blueprint_for(principal, name)
    for old in Review.objects.select_for_update().filter(blueprint=blueprint, closed_at=None):
        _close(old, ReviewState.WITHDRAWN)
    review = Review.objects.create(
        blueprint=blueprint,
        base=Version.objects.filter(blueprint=blueprint, number__isnull=False).order_by("-number").first(),
        draft_version=draft.version,
        source=draft.source,
        content_hash=meaning_of(draft.source),
        note=_words(note, "note"),
        asked_by=principal.user,
    )
    ReviewAnswer.objects.bulk_create([ReviewAnswer(review=review, person=user) for user in asked if user])
    audit(
        principal,
        "review.asked",
        f"{name}: draft {draft.version}",
        {"review": str(review.id), "people": [user.email for user in asked if user]},
    )
    return review_for(principal, review.id)


@transaction.atomic
def withdraw_review(principal: Principal, review_id: Any) -> Review:
    """Take the question back. An editor may do so for a colleague who is away. Twice changes nothing."""
    principal.require(Permission.EDIT)
    if review_for(principal, review_id).closed_at is None:
        review = _locked(principal, review_id)
        _close(review, ReviewState.WITHDRAWN)
        audit(principal, "review.withdrawn", review.blueprint.name, {"review": str(review.id)})
    return review_for(principal, review_id)


def close_published(review: Review) -> None:
    """The draft was published while this review was the current one; part of that transaction."""
    _close(review, ReviewState.PUBLISHED)


def _close(review: Review, state: ReviewState) -> None:
    review.state, review.closed_at = state, now()
    review.save(update_fields=["state", "closed_at"])


# --- answering --------------------------------------------------------------------------------------------


@transaction.atomic
def answer_review(principal: Principal, review_id: Any, verdict: str, words: str = "") -> Review:
    """Approve, or ask for changes; a later answer of the same person replaces the one before.

    verdict: `approve` or `changes`; whoever asks for changes says which.
    Raises NotAReviewer for somebody who was not asked, the asker included; ReviewClosed.
    """
    principal.require(Permission.READ)
    review = _locked(principal, review_id)
    mine = review.answers.filter(person=principal.user).first()
    if mine is None:
        own = review.asked_by_id == principal.user.id
        raise NotAReviewer(
            "You asked for this review; your own approval does not count." if own
            else "You were not asked for this review.",
            next="Comment instead, or ask to be added.",
        )  # fmt: skip
    if verdict not in (Verdict.APPROVE, Verdict.CHANGES):
        raise InvalidInput(
            f'"{verdict[:40]}" is no answer.',
            fields={"verdict": "approve or changes."},
            next="Approve, or ask for changes.",
        )
    text = _words(words, "words")
    if verdict == Verdict.CHANGES and not text and not review.comments.filter(author=principal.user).exists():
        raise InvalidInput(
            "Say what should change.",
            fields={"words": "A sentence about what should change, or a comment at a step."},
            next="Write it below, or comment on the step it is about.",
        )
    mine.verdict, mine.words, mine.answered_at = verdict, text, now()
    mine.save()
    review.state = standing(review.answers.values_list("verdict", flat=True))
    review.save(update_fields=["state"])
    audit(
        principal,
        "review.approved" if verdict == Verdict.APPROVE else "review.changes_asked",
        f"{review.blueprint.name}: draft {review.draft_version}",
        {"review": str(review.id)},
    )
    return review_for(principal, review.id)


@transaction.atomic
def comment_on_review(principal: Principal, review_id: Any, text: str, *, node: str = "") -> ReviewComment:
    """Say something about a step (its path) or, without one, about the whole.

    Everybody who was asked may, and everybody who may edit. Raises InvalidInput for an empty text or a step
    the reviewed draft does not have.
    """
    principal.require(Permission.READ)
    review = _locked(principal, review_id)
    if not principal.may(Permission.EDIT) and not review.answers.filter(person=principal.user).exists():
        principal.require(Permission.EDIT)
    words = _words(text, "text")
    if not words:
        raise InvalidInput(
            "The comment is empty.", fields={"text": "Write something."}, next="Write what you noticed."
        )
    if node and node not in nodes_of(review):
        raise InvalidInput(
            f'The reviewed draft has no step "{node[:80]}".',
            fields={"node": "The path of a step, or empty for the whole."},
            next="Choose a step of the picture.",
        )
    return ReviewComment.objects.create(review=review, node=node, text=words, author=principal.user)


@transaction.atomic
def resolve_comment(
    principal: Principal, review_id: Any, comment_id: Any, *, resolved: bool = True
) -> Review:
    """Mark a comment as settled, or open it again."""
    principal.require(Permission.EDIT)
    review = review_for(principal, review_id)
    identity = as_uuid(comment_id)
    comment = review.comments.filter(id=identity).first() if identity else None
    if comment is None:
        raise ReviewNotFound(f"This review has no comment {comment_id}.", next="Reload the review.")
    comment.resolved_by = principal.user if resolved else None
    comment.resolved_at = now() if resolved else None
    comment.save(update_fields=["resolved_by", "resolved_at"])
    return review_for(principal, review.id)


@dataclass(frozen=True)
class Waiting:
    """Comments on one step that are not settled."""

    review: UUID
    node: str
    """The step's path in the reviewed draft."""
    now: str
    """Its path where the comments are shown: it may have been renamed since."""
    count: int


def waiting_comments(principal: Principal, name: str, draft: Draft | None = None) -> list[Waiting]:
    """Those of the current review, by the step they are about.

    draft: where they are shown, shared or private; without one, steps are called as they were.
    """
    principal.require(Permission.READ)
    rows = ReviewComment.objects.filter(
        review__blueprint__workspace=principal.workspace,
        review__blueprint__name=name,
        review__closed_at=None,
        resolved_at=None,
    ).exclude(node="")
    found = list(
        rows.values_list("review_id", "review__draft_version", "node").annotate(Count("id")).order_by("node")
    )
    if not found:
        return []
    renames = drafts.renames_until(draft, since=found[0][1]) if draft is not None else []
    there = _paths_in(draft) if draft is not None and renames else frozenset[str]()

    def now(node: str) -> str:
        path = followed(node, renames)
        # A text that was written over, or brought back, has names that no rename tells of.
        return node if path not in there and node in there else path

    return [Waiting(review, node, now(node), count) for review, _, node, count in found]


def _paths_in(draft: Draft) -> frozenset[str]:
    return frozenset(path for path, _ in all_nodes(draft_texts.seen(draft).plan.document.graph))


def nodes_of(review: Review) -> dict[str, str]:
    """Path → title of every step of the reviewed draft."""
    from apps.blueprints.core.text_fit import title_of
    from apps.blueprints.services import check_source

    checked = check_source(review.source)
    document = checked.document or checked.remainder
    return {path: title_of(node.title, path) for path, node in all_nodes(document.graph)} if document else {}


def _locked(principal: Principal, review_id: Any) -> Review:
    """The review with its row locked. Raises ReviewClosed unless it is the current one."""
    found = review_for(principal, review_id)
    Review.objects.select_for_update().get(pk=found.pk)
    found = review_for(principal, review_id)
    if found.closed_at is not None:
        why = "was published" if found.state == ReviewState.PUBLISHED else "was withdrawn, or asked for anew"
        raise ReviewClosed(
            f"This review is over: its draft {why}.", next="Ask for a review of the draft as it is now."
        )
    return found


def _words(text: str, name: str) -> str:
    found = text.strip()
    if len(found) > LONGEST:
        raise InvalidInput(
            f"{len(found):,} characters are too many.",
            fields={name: f"At most {LONGEST:,} characters."},
            next="Say it shorter.",
        )
    return found
