"""Publishing gives exactly what was looked at; reviews are by others; forks and restores keep the text."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import connection

from apps.blueprints import ports, publishing, reviews, services
from apps.blueprints.comparing import compare
from apps.blueprints.core.parse import parse
from apps.blueprints.core.reviewing import ReviewState
from apps.blueprints.core.tools import ToolSpec
from apps.blueprints.draft_log import restore
from apps.blueprints.drafts import draft_for
from apps.blueprints.errors import (
    BlueprintInvalid,
    BlueprintNotFound,
    DraftMoved,
    NameTaken,
    NotAReviewer,
    ReviewClosed,
    ReviewNotFound,
    ReviewStands,
)
from apps.blueprints.models import Blueprint, Version
from apps.workspaces.models import AuditEntry, Membership, User
from mirrorneuron.base.errors import Forbidden, InvalidInput
from tests.blueprints.drafting import NAME, draft, published, text, write
from tests.blueprints.samples import TOOLS


class _Catalog:
    def specs(self) -> dict[str, ToolSpec]:
        return TOOLS

    def describe(self, *_: Any) -> str:
        return ""


@pytest.fixture
def owner(alice: User, principal: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(ports, "_catalog", _Catalog())
    found = principal(alice)
    published(found)
    return found


@pytest.fixture
def erin(workspace: Any) -> User:
    """A second editor."""
    user = User.objects.create_user("erin@example.com", name="Erin")
    Membership.objects.create(workspace=workspace, user=user, roles=["editor"])
    return user


@pytest.fixture
def other(erin: User, principal: Any) -> Any:
    return principal(erin)


pytestmark = pytest.mark.django_db


# --- publishing -------------------------------------------------------------------------------------------


def test_the_draft_becomes_the_next_version(owner: Any) -> None:
    seen = draft(owner, text(title="Better"))

    version = publishing.publish_draft(owner, NAME, draft_version=seen, notes="A better title.")

    assert (version.number, version.notes) == (2, "A better title.")
    assert not compare(owner, NAME, "2", "draft").difference


def test_what_somebody_changed_after_the_look_is_not_published(owner: Any) -> None:
    seen = draft(owner, text(title="Better"))
    draft(owner, text(title="Somebody else's"))

    with pytest.raises(DraftMoved) as refused:
        publishing.publish_draft(owner, NAME, draft_version=seen)

    assert refused.value.seen == seen and refused.value.found == draft_for(owner, NAME).version
    assert Version.objects.count() == 1


def test_a_draft_with_errors_is_refused_with_all_of_them(owner: Any) -> None:
    seen = draft(owner, text().replace("tool: send_email", "tool: send_pigeon"))

    with pytest.raises(BlueprintInvalid) as refused:
        publishing.publish_draft(owner, NAME, draft_version=seen)

    assert "unknown_tool" in {p.code for p in refused.value.problems}
    assert Version.objects.count() == 1


def test_nobody_publishes_without_the_right(owner: Any, bob: User, principal: Any) -> None:
    seen = draft(owner, text(title="Better"))
    with pytest.raises(Forbidden):
        publishing.publish_draft(principal(bob), NAME, draft_version=seen)


def test_a_version_put_back_into_the_draft_is_that_text_again(owner: Any) -> None:
    before = services.export(owner, NAME, 1)
    draft(owner, text(title="Better"))

    restore(owner, NAME, version=1)

    assert draft_for(owner, NAME).source == before


@pytest.mark.django_db(transaction=True)
def test_of_an_edit_and_a_publication_at_once_nothing_unseen_is_published(owner: Any) -> None:
    """Whichever comes first: the version is the text that was looked at, or there is none."""
    seen = draft(owner, text(title="Better"))
    start = threading.Barrier(2)
    refused: list[DraftMoved] = []

    def publish() -> None:
        start.wait()
        try:
            publishing.publish_draft(owner, NAME, draft_version=seen)
        except DraftMoved as moved:
            refused.append(moved)
        finally:
            connection.close()

    def edit() -> None:
        start.wait()
        try:
            draft(owner, text(title="Somebody else's"))
        finally:
            connection.close()

    people = [threading.Thread(target=publish), threading.Thread(target=edit)]
    for one in people:
        one.start()
    for one in people:
        one.join()

    second = Version.objects.filter(number=2).first()
    assert (second is None) == bool(refused)
    assert second is None or second.source == text(title="Better")
    assert "Somebody else's" in draft_for(owner, NAME).source


# --- forks ------------------------------------------------------------------------------------------------


def test_a_fork_is_the_same_text_under_another_name_and_knows_where_it_came_from(owner: Any) -> None:
    source = "# Mine.\n" + text(title="With a comment")
    services.publish(owner, NAME, source)

    made = publishing.fork(owner, NAME)

    copied = services.export(owner, made.name)
    assert made.name == "follow_up_fork"
    assert copied == source.replace("name: follow_up", "name: follow_up_fork", 1)
    assert made.origin is not None and (made.origin["fork_of"], made.origin["version"]) == (NAME, 2)


def test_forks_of_one_blueprint_get_names_of_their_own(owner: Any) -> None:
    names = [publishing.fork(owner, NAME).name for _ in range(3)]
    assert names == ["follow_up_fork", "follow_up_fork_2", "follow_up_fork_3"]
    with pytest.raises(NameTaken):
        publishing.fork(owner, NAME, to="follow_up_fork")


@pytest.mark.parametrize(
    "source",
    [
        "metadata: {name: old, title: T}\nx: 1\n",
        'metadata:\n  # name: not this\n  name: "old"  # this\n',
        '{"metadata": {"name": "old"}}',
        "metadata: {title: 'name: old', name: old}\n",
    ],
)
def test_only_the_name_changes_in_a_renamed_text(source: str) -> None:
    before, after = parse(source).data, parse(publishing.renamed(source, "new")).data
    assert after == {**before, "metadata": {**before["metadata"], "name": "new"}}


def test_a_stranger_forks_nothing(owner: Any, charlie: User, principal: Any) -> None:
    with pytest.raises(BlueprintNotFound):
        publishing.fork(principal(charlie), NAME)
    assert Blueprint.objects.count() == 1


# --- reviews ----------------------------------------------------------------------------------------------


def asked(owner: Any, *people: User) -> Any:
    seen = draft(owner, text(title="Better"))
    return reviews.ask_review(owner, NAME, [p.id for p in people], draft_version=seen, note="Please.")


def test_a_review_is_approved_when_everybody_asked_has_approved(
    owner: Any, erin: User, other: Any, bob: User, principal: Any
) -> None:
    review = asked(owner, erin, bob)
    assert reviews.answer_review(other, review.id, "approve").state == ReviewState.OPEN
    assert reviews.answer_review(principal(bob), review.id, "approve").state == ReviewState.APPROVED
    seen = draft_for(owner, NAME).version
    assert publishing.publish_draft(owner, NAME, draft_version=seen).number == 2
    assert reviews.review_for(owner, review.id).state == ReviewState.PUBLISHED


def test_nobody_reviews_what_they_ask_for_themselves(owner: Any, alice: User, erin: User) -> None:
    seen = draft(owner, text(title="Better"))
    with pytest.raises(InvalidInput):
        reviews.ask_review(owner, NAME, [alice.id, erin.id], draft_version=seen)
    review = reviews.ask_review(owner, NAME, [erin.id], draft_version=seen)
    with pytest.raises(NotAReviewer):
        reviews.answer_review(owner, review.id, "approve")


def test_whoever_asks_for_changes_says_which(owner: Any, erin: User, other: Any) -> None:
    review = asked(owner, erin)
    with pytest.raises(InvalidInput):
        reviews.answer_review(other, review.id, "changes")
    reviews.comment_on_review(other, review.id, "Too many rounds.", node="approve")
    assert reviews.answer_review(other, review.id, "changes").state == ReviewState.CHANGES


@pytest.mark.parametrize("answer", [None, "changes"])
def test_an_unfinished_review_stands_against_publishing_until_somebody_means_it(
    answer: str | None, owner: Any, erin: User, other: Any
) -> None:
    review = asked(owner, erin)
    if answer:
        reviews.answer_review(other, review.id, answer, "No.")
    seen = draft_for(owner, NAME).version

    with pytest.raises(ReviewStands):
        publishing.publish_draft(owner, NAME, draft_version=seen)
    version = publishing.publish_draft(owner, NAME, draft_version=seen, anyway=True)

    assert version.number == 2
    assert AuditEntry.objects.filter(action="blueprint.published_without_review").count() == 1


def test_an_approval_is_of_the_draft_that_was_seen(owner: Any, erin: User, other: Any) -> None:
    review = asked(owner, erin)
    reviews.answer_review(other, review.id, "approve")
    seen = draft(owner, text(title="Something else"))

    assert reviews.has_changed(review, draft_for(owner, NAME).source)
    with pytest.raises(ReviewStands):
        publishing.publish_draft(owner, NAME, draft_version=seen)


def test_a_comment_in_the_yaml_does_not_undo_an_approval(owner: Any, erin: User, other: Any) -> None:
    review = asked(owner, erin)
    reviews.answer_review(other, review.id, "approve")
    seen = draft(owner, "# A remark.\n" + text(title="Better"))

    assert publishing.publish_draft(owner, NAME, draft_version=seen).number == 2


def test_asking_anew_ends_the_review_before(owner: Any, erin: User, other: Any) -> None:
    first, second = asked(owner, erin), asked(owner, erin)
    assert reviews.review_for(owner, first.id).state == ReviewState.WITHDRAWN
    assert reviews.current_review(owner, NAME) == second
    with pytest.raises(ReviewClosed):
        reviews.answer_review(other, first.id, "approve")


def test_a_withdrawn_review_takes_no_answer_and_blocks_nothing(owner: Any, erin: User, other: Any) -> None:
    review = asked(owner, erin)
    reviews.withdraw_review(owner, review.id)
    reviews.withdraw_review(owner, review.id)
    with pytest.raises(ReviewClosed):
        reviews.comment_on_review(other, review.id, "Too late.")
    seen = draft_for(owner, NAME).version
    assert publishing.publish_draft(owner, NAME, draft_version=seen).number == 2


def test_a_comment_is_about_a_step_of_the_draft_or_about_the_whole(
    owner: Any, erin: User, other: Any
) -> None:
    review = asked(owner, erin)
    reviews.comment_on_review(other, review.id, "Fine.")
    with pytest.raises(InvalidInput):
        reviews.comment_on_review(other, review.id, "What?", node="no_such_step")
    comment = reviews.comment_on_review(other, review.id, "Shorter.", node="draft")
    settled = reviews.resolve_comment(owner, review.id, comment.id)
    assert [(c.node, c.resolved_at is not None) for c in settled.comments.order_by("id")] == [
        ("", False),
        ("draft", True),
    ]


def test_a_review_waits_for_those_who_were_asked(owner: Any, erin: User, other: Any) -> None:
    review = asked(owner, erin)
    assert list(reviews.reviews_waiting_for(other)) == [review]
    assert not reviews.reviews_waiting_for(owner)
    reviews.answer_review(other, review.id, "approve")
    assert not reviews.reviews_waiting_for(other)


def test_a_stranger_learns_of_no_review(owner: Any, erin: User, charlie: User, principal: Any) -> None:
    review = asked(owner, erin)
    with pytest.raises(ReviewNotFound):
        reviews.review_for(principal(charlie), review.id)
    with pytest.raises(ReviewNotFound):
        reviews.comment_on_review(principal(charlie), review.id, "Hello")


def test_without_a_text_the_draft_is_published_and_exported(owner: Any) -> None:
    made = services.create_blueprint(owner, "Drawn here")
    drawn = text(name=made.name, title="Drawn here")
    write(owner, made.name, drawn)
    assert services.export(owner, made.name) == drawn
    version = publishing.publish_as_it_stands(owner, made.name, notes="first")
    assert (version.number, version.source, version.notes) == (1, drawn, "first")


def test_a_review_holds_for_who_names_no_draft_too(owner: Any, other: Any, erin: User) -> None:
    seen = draft(owner, text(title="Reviewed"))
    reviews.ask_review(owner, NAME, [erin.id], draft_version=seen)
    with pytest.raises(ReviewStands):
        publishing.publish_as_it_stands(owner, NAME)
    assert publishing.publish_as_it_stands(owner, NAME, anyway=True).number == 2


def test_lists_call_what_was_never_published_by_its_draft(owner: Any) -> None:
    made = services.create_blueprint(owner, "Untitled thing")
    write(owner, made.name, text(name=made.name, title="Answer mail", summary="Answers it."))
    made.refresh_from_db()
    assert (made.title, made.summary) == ("Answer mail", "Answers it.")
    publishing.publish_as_it_stands(owner, made.name)
    write(owner, made.name, text(name=made.name, title="Not yet"))
    made.refresh_from_db()
    assert made.title == "Answer mail"
