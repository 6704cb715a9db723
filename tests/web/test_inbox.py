"""Only a POST decides, the first decision stands, and a wrong answer loses nothing."""

from __future__ import annotations

import re

import pytest
from django.test import Client

from apps.approvals.models import ApprovalRequest
from apps.workspaces.models import User
from tests.approvals.conftest import Ask, step_of
from tests.web.conftest import ClientOf


def decide(client: Client, question: ApprovalRequest, **fields: object) -> object:
    return client.post(
        f"/inbox/{question.id}/decision", {"revision": question.revision, **fields}, follow=False
    )


@pytest.fixture
def question(ask: Ask) -> ApprovalRequest:
    return ask(show=["draft"], proposes="send")


def test_looking_never_decides(question: ApprovalRequest, browser: ClientOf, bob: User) -> None:
    client = browser(bob)
    for look in (client.get, client.head):
        assert look(f"/inbox/{question.id}").status_code == 200
        back = look(f"/inbox/{question.id}/decision?verb=approve")
        assert back.status_code == 302 and back.headers["Location"] == f"/inbox/{question.id}"
    question.refresh_from_db()
    assert question.state == "open" and not question.decisions.exists()


def test_the_card_states_the_effect_before_the_evidence_before_the_draft(
    question: ApprovalRequest, browser: ClientOf, bob: User
) -> None:
    html = browser(bob).get(f"/inbox/{question.id}").content.decode()
    order = [html.index(f'data-testid="{name}"') for name in ("effect", "evidence", "draft", "decide")]
    assert order == sorted(order)
    assert "If you approve:" in html and "ada@example.com" in html
    assert f'data-request-id="{question.id}"' in html
    for action in ("approve", "edit", "reject"):
        assert f'data-action="{action}"' in html


def test_approving_leads_to_the_run_when_nothing_else_waits(
    question: ApprovalRequest, browser: ClientOf, bob: User
) -> None:
    answer = decide(browser(bob), question, verb="approve")
    assert answer.headers["Location"] == f"/runs/{question.run_id}"  # type: ignore[attr-defined]
    question.refresh_from_db()
    assert question.state == "approved"


def test_approving_leads_to_the_next_question(ask: Ask, browser: ClientOf, bob: User) -> None:
    first, second = ask(), ask()
    answer = decide(browser(bob), first, verb="approve")
    assert answer.headers["Location"] == f"/inbox/{second.id}"  # type: ignore[attr-defined]


def test_edits_keep_their_types_and_only_changes_are_sent(
    question: ApprovalRequest, browser: ClientOf, bob: User
) -> None:
    fields = {
        "in.to": "ada@example.com",
        "in.body": "Dear Ada,\r\n\r\nbetter.",
        "in.copies": "2",
    }
    decide(browser(bob), question, verb="approve", part="edit", **fields)
    question.refresh_from_db()
    assert question.final == {"to": "ada@example.com", "body": "Dear Ada,\n\nbetter.", "copies": 2}
    assert question.decisions.get().edits == {"body": "Dear Ada,\n\nbetter.", "copies": 2}
    assert step_of(question).output == question.final


def test_what_a_person_takes_out_of_an_object_is_not_approved(ask: Ask, browser: ClientOf, bob: User) -> None:
    question = ask(proposal={"content": {"keep": 1, "drop": 2, "change": 3}})
    fields = {"in.content": '{"keep": 1, "change": 4}'}
    decide(browser(bob), question, verb="approve", part="edit", **fields)
    question.refresh_from_db()
    assert question.final == {"content": {"keep": 1, "change": 4}}


@pytest.mark.parametrize(
    ("copies", "said"),
    [("many", "is not a number"), ("-1", "a number of at least"), ("1.5", "not a whole number")],
)
def test_a_wrong_edit_brings_the_form_back_and_decides_nothing(
    question: ApprovalRequest, browser: ClientOf, bob: User, copies: str, said: str
) -> None:
    fields = {"in.to": "ada@example.com", "in.body": "My <own> text", "in.copies": copies}
    answer = decide(browser(bob), question, verb="approve", part="edit", **fields)
    html = answer.content.decode()  # type: ignore[attr-defined]
    assert answer.status_code == 422 and said in html  # type: ignore[attr-defined]
    assert "My &lt;own&gt; text" in html and '<details data-part="edit" open>' in html
    question.refresh_from_db()
    assert question.state == "open"


def test_a_proposal_that_cannot_go_out_opens_where_it_can_be_mended(
    ask: Ask, browser: ClientOf, bob: User
) -> None:
    question = ask(proposes="send", proposal={"to": "", "body": "Hello.", "copies": 1})
    answer = decide(browser(bob), question, verb="approve")
    html = answer.content.decode()  # type: ignore[attr-defined]
    assert answer.status_code == 422 and '<details data-part="edit" open>' in html  # type: ignore[attr-defined]
    assert 'id="in-to-error"' in html and 'id="in-body-error"' not in html
    question.refresh_from_db()
    assert question.state == "open"


@pytest.mark.parametrize("revision", ["²", "9" * 5000, "x", "-1"])
def test_an_odd_revision_is_no_failure(
    revision: str, question: ApprovalRequest, browser: ClientOf, bob: User
) -> None:
    sent = {"verb": "reject", "reason": "No.", "revision": revision}
    answer = browser(bob).post(f"/inbox/{question.id}/decision", sent)
    assert answer.status_code < 500


def test_rejecting_needs_a_reason_and_keeps_the_form_open(
    question: ApprovalRequest, browser: ClientOf, bob: User
) -> None:
    client = browser(bob)
    empty = decide(client, question, verb="reject", part="reject", reason=" ")
    assert empty.status_code == 422 and b"Say why not." in empty.content  # type: ignore[attr-defined]
    decide(client, question, verb="reject", part="reject", reason="Too early.")
    question.refresh_from_db()
    assert question.state == "rejected" and question.decisions.get().reason == "Too early."


def test_a_late_click_is_told_the_truth(
    question: ApprovalRequest, browser: ClientOf, alice: User, bob: User
) -> None:
    decide(browser(bob), question, verb="reject", reason="Too early.")
    late = decide(browser(alice), question, verb="approve")
    html = late.content.decode()  # type: ignore[attr-defined]
    assert late.status_code == 409  # type: ignore[attr-defined]
    assert "Already rejected by bob@example.com" in html and 'data-action="approve"' not in html
    question.refresh_from_db()
    assert question.state == "rejected"


def test_a_decision_on_what_has_been_edited_meanwhile_is_refused(
    question: ApprovalRequest, browser: ClientOf, bob: User
) -> None:
    answer = browser(bob).post(f"/inbox/{question.id}/decision", {"verb": "approve", "revision": "7"})
    assert answer.status_code == 412 and b"Look at the request again" in answer.content
    question.refresh_from_db()
    assert question.state == "open"


def test_a_round_of_changes_shows_what_changed(ask: Ask, browser: ClientOf, bob: User) -> None:
    question = ask(
        edges=[{"from": "ask.changes", "to": "draft", "max_rounds": 3}],
        proposal={
            "to": "ada@example.com",
            "body": "Hello,\n\n{{ steps.draft.output.text }}\n\nBye",
            "copies": 1,
        },
        verbs=["approve", "reject", "request_changes"],
    )
    client = browser(bob)
    decide(client, question, verb="request_changes", reason="Warmer, please.")
    from tests.runs.engine import work_all

    work_all()
    second = ApprovalRequest.objects.get(run_id=question.run_id, state="open")
    html = client.get(f"/inbox/{second.id}").content.decode()
    assert '<span class="prose">Hello,\n\ndrafted in round 2\n\nBye</span>' in html  # as it will be sent
    assert re.search(r"<del class=.removed.><span[^>]*>gone: </span>drafted in round 1</del>", html)
    assert re.search(r"<ins class=.added.><span[^>]*>new: </span>drafted in round 2</ins>", html)
    assert "<div>Hello,</div>" in html and "(edited by a person)" not in html
    assert "Warmer, please." in html and "round 2" in html


def test_the_list_searches_and_shows_what_was_decided(ask: Ask, browser: ClientOf, bob: User) -> None:
    first = ask(title="Send the first?")
    second = ask(title="Pay the second?")
    client = browser(bob)
    assert client.get("/inbox").content.count(b'data-testid="inbox-row"') == 2
    found = client.get("/inbox?q=pay").content.decode()
    assert str(second.id) in found and str(first.id) not in found
    decide(client, first, verb="reject", reason="No.")
    decided = client.get("/inbox?show=decided").content.decode()
    assert str(first.id) in decided and str(second.id) not in decided


def test_who_may_not_decide_is_told_why(question: ApprovalRequest, browser: ClientOf, viewer: User) -> None:
    client = browser(viewer)
    html = client.get(f"/inbox/{question.id}").content.decode()
    assert "Your role does not decide" in html and 'data-action="approve"' not in html
    assert decide(client, question, verb="approve").status_code == 403  # type: ignore[attr-defined]


def test_a_stranger_neither_sees_nor_decides(
    question: ApprovalRequest, browser: ClientOf, charlie: User
) -> None:
    client = browser(charlie)
    assert client.get(f"/inbox/{question.id}").status_code == 404
    assert decide(client, question, verb="approve").status_code == 404  # type: ignore[attr-defined]
    assert str(question.id) not in client.get("/inbox").content.decode()


def test_a_decision_without_the_pages_token_is_refused(question: ApprovalRequest, bob: User) -> None:
    careful = Client(enforce_csrf_checks=True)
    careful.force_login(bob)
    assert decide(careful, question, verb="approve").status_code == 403  # type: ignore[attr-defined]
    question.refresh_from_db()
    assert question.state == "open"


def test_a_link_chooses_the_workspace_by_itself(
    question: ApprovalRequest, browser: ClientOf, charlie: User
) -> None:
    from apps.workspaces.models import Membership

    Membership.objects.create(workspace=question.workspace, user=charlie, roles=["approver"])
    client = browser(charlie)
    assert str(question.id) not in client.get("/inbox").content.decode()
    assert client.get(f"/inbox/{question.id}").status_code == 200
    assert str(question.id) in client.get("/inbox").content.decode()


def test_an_address_the_tool_refuses_brings_the_form_back(ask: Ask, browser: ClientOf, bob: User) -> None:
    mail = {"to": ["ada@example.com"], "subject": "Hello", "body": "Dear Ada."}
    question = ask(proposal=mail)
    ApprovalRequest.objects.filter(id=question.id).update(tool="send_email")
    fields = {"in.to": "not an address", "in.subject": "Hello", "in.body": "Dear Ada, kept."}
    answer = decide(browser(bob), question, verb="approve", part="edit", **fields)
    html = answer.content.decode()  # type: ignore[attr-defined]
    assert answer.status_code == 422  # type: ignore[attr-defined]
    assert "Write an e-mail address such as ann@example.com" in html
    assert "not an address" in html and "Dear Ada, kept." in html
    question.refresh_from_db()
    assert question.state == "open"


def test_a_search_without_hits_does_not_say_that_all_is_clear(
    question: ApprovalRequest, browser: ClientOf, bob: User
) -> None:
    html = browser(bob).get("/inbox?q=nothing-like-this").content.decode()
    assert "All clear" not in html and "Nothing fits" in html


def test_a_decided_question_promises_nothing(question: ApprovalRequest, browser: ClientOf, bob: User) -> None:
    ApprovalRequest.objects.update(effect_summary="A file will be written.")
    client = browser(bob)
    assert "will be written" in client.get(f"/inbox/{question.id}").content.decode()
    decide(client, question, verb="approve")
    for path in (f"/inbox/{question.id}?show=decided", "/inbox?show=decided"):
        html = client.get(path).content.decode()
        assert "will be written" not in html and "would go out" not in html


def test_an_error_keeps_the_way_around_the_product(
    question: ApprovalRequest, browser: ClientOf, bob: User
) -> None:
    client = browser(bob)
    for path in ("/inbox/00000000-0000-0000-0000-000000000000", "/no/such/page"):
        answer = client.get(path)
        assert answer.status_code == 404 and b'data-testid="rail-inbox"' in answer.content
