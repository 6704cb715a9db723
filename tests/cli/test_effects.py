"""`mn effects`: what a person sees of an effect, and what resolving it says."""

from __future__ import annotations

import pytest

from apps.blueprints.services import store_unpublished
from apps.ledger.models import Effect
from apps.runs.models import Run
from apps.runs.services import start_run
from mirrorneuron.base.clock import now
from mirrorneuron.cli.blueprint import STARTER
from mirrorneuron.cli.frame import FAILED, REFUSED
from mirrorneuron.cli.waiting import code_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def doubt(alice, principal, monkeypatch):
    monkeypatch.setattr("mirrorneuron.cli.effects.go_on", lambda run_id: None)
    who = principal(alice)
    text = STARTER.replace("NAME", "starter").replace("required: [topic, documents]", "required: [topic]")
    run = start_run(who, store_unpublished(who, text), {"topic": "x"})
    return Effect.objects.create(
        workspace=who.workspace, run_id=run.id, step_path="store", tool="write_file", key="k1",
        effect_class="opaque", state="in_doubt", arguments={"name": "notes.md"}, fingerprint="f", sends=1,
        sent_at=now(),
    )  # fmt: skip


def test_effect_is_shown_with_arguments_key_and_what_to_do(mn, doubt):
    said = mn("effects", "show", doubt.id)
    assert said.code == 0, said
    assert "write_file: in_doubt (opaque)" in said.out and '"name": "notes.md"' in said.out
    assert "key k1" in said.out and f"mn effects resolve {doubt.id}" in said.out
    assert mn("effects", "show", doubt.id, "--json").json["arguments"] == {"name": "notes.md"}
    assert mn("effects", "show", "nothing").code == 1


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        ("did_not_happen", "noted; the call is made again under a new key"),
        ("happened", "noted; it counts as committed"),
        ("abandon", "noted; it is given up"),
    ],
)
def test_resolving_says_what_comes_next(mn, doubt, outcome, said):
    done = mn("effects", "resolve", doubt.id, "--outcome", outcome, "--reason", "looked")
    assert done.code == 0 and said in done.out


@pytest.mark.parametrize(
    ("code", "expected"), [("refused", REFUSED), ("egress_refused", REFUSED), ("rejected", FAILED)]
)
def test_exit_code_tells_a_rule_s_no_from_a_person_s(code, expected):
    assert code_of(Run(status="failed", error={"code": code})) == expected
