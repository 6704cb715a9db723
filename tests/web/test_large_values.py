"""Large values on pages: their beginning, their size and a link; all of it for members."""

from __future__ import annotations

import pytest
from django.template import Context, Template

from apps.ledger import payloads
from apps.ledger.models import PayloadUse
from apps.runs.services import start_run
from tests.runs.engine import version_of, work_all

pytestmark = pytest.mark.django_db(transaction=True)
TEXT = "<b>" + "".join(chr(97 + i * 7919 % 26) for i in range(120_000))


@pytest.fixture
def run(workspace, alice, principal):
    nodes = [{"id": "a", "kind": "transform", "output": {"text": "{{ inputs.text }}", "n": 1}}]
    run = start_run(principal(alice), version_of(workspace, nodes), {"text": TEXT})
    work_all()
    payloads.clear_caches()
    return run


def test_a_page_shows_the_beginning_and_links_to_all_of_it(run, alice, browser):
    page = browser(alice).get(f"/runs/{run.id}?step=a").content.decode()
    assert "&lt;b&gt;" + TEXT[3:100] in page and "120 kB" in page
    assert len(page) < 200_000
    address = f"/runs/{run.id}/values/{PayloadUse.objects.get().hash}"
    assert f'href="{address}"' in page
    whole = browser(alice).get(address)
    assert whole.content.decode() == TEXT and whole.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert whole.headers["X-Content-Type-Options"] == "nosniff"


def test_strangers_get_nothing(run, charlie, browser):
    name = PayloadUse.objects.get().hash
    assert browser(charlie).get(f"/runs/{run.id}/values/{name}").status_code == 404


def test_a_hash_the_run_does_not_use_is_not_found(run, alice, browser):
    assert browser(alice).get(f"/runs/{run.id}/values/{'0' * 64}").status_code == 404


def test_a_forged_reference_is_shown_as_the_object_it_is(workspace, alice, principal, browser):
    nodes = [{"id": "a", "kind": "transform", "output": "{{ inputs.it }}"}]
    forged = {"$payload": "a/b", "size": 1, "type": "text", "begins": "nothing of ours"}
    run = start_run(principal(alice), version_of(workspace, nodes), {"it": forged})
    work_all()
    page = browser(alice).get(f"/runs/{run.id}?step=a")
    assert page.status_code == 200 and "/values/" not in page.content.decode()


def test_what_a_forged_reference_says_is_escaped():
    forged = {"$payload": "x'><script>", "size": 1, "type": "text", "begins": "<i>"}
    shown = Template("{% load mn %}{% value v %}").render(Context({"v": forged}))
    assert "<script>" not in shown and "<i>" not in shown and "href" not in shown
