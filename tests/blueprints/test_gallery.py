"""Every blueprint in the gallery keeps what its folder promises: complete, valid, right in its own cases."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from ruamel.yaml import YAML

from apps.approvals.models import ApprovalRequest
from apps.approvals.services import decide
from apps.blueprints.models import Version
from apps.blueprints.services import check_source, import_blueprint
from apps.ledger.models import Effect
from apps.runs.models import Run
from apps.runs.services import start_run
from apps.workspaces.access import Principal
from apps.workspaces.models import User
from apps.workspaces.services import store_file
from mirrorneuron.base.errors import InvalidInput, MirrorNeuronError
from mirrorneuron.config import config
from tests.conftest import PrincipalOf
from tests.runs.engine import statuses, work_all

FOLDERS = sorted(p.parent for p in Path(settings.GALLERY_DIR).glob("*/blueprint.yaml"))
FILES = {
    "customer_research_to_followup": ("documents", "crm"),
    "invoice_reconciliation": ("invoices", "payments"),
}
"""Which inputs of a blueprint are files."""


def read(path: Path) -> Any:
    return YAML(typ="safe").load(path.read_text())


def cases() -> list[Any]:
    found = []
    for folder in FOLDERS:
        for suite in ("golden", "redteam"):
            for case in read(folder / f"{suite}.yaml")["cases"]:
                found.append(pytest.param(folder, case, id=f"{folder.name}-{case['id']}"))
    return found


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda f: f.name)
def test_a_folder_is_complete_and_its_blueprint_without_errors(db: None, folder: Path) -> None:
    result = check_source((folder / "blueprint.yaml").read_text())

    assert [p for p in result.problems if p.level == "error"] == []
    assert result.document is not None
    assert result.document.metadata.name == folder.name
    card = result.document.card
    assert all([card.purpose, card.must_never, card.business_owner, card.technical_owner, card.model_steward])
    assert card.escalation.support and card.escalation.legal and card.escalation.security
    assert (folder / card.runbook).read_text().startswith("# ")
    assert (folder / "README.md").read_text().startswith("# ")
    sample = json.loads((folder / "inputs" / "sample.json").read_text())
    assert all((folder / "inputs" / sample[name]).exists() for name in FILES[folder.name] if name in sample)


def with_files(principal: Principal, folder: Path, inputs: dict[str, Any]) -> dict[str, Any]:
    """The inputs of a case with ids of stored files where it names paths."""
    given = dict(inputs)
    for name in FILES[folder.name]:
        if name not in given:
            continue
        path = folder / given[name]
        paths = sorted(path.iterdir()) if path.is_dir() else [path]
        ids = [str(store_file(principal, p.name, p.read_bytes()).id) for p in paths]
        given[name] = ids if name == "documents" else ids[0]
    return given


def start(principal: Principal, folder: Path, inputs: dict[str, Any]) -> Run:
    version: Version = import_blueprint(principal, (folder / "blueprint.yaml").read_text())
    run = start_run(principal, version, with_files(principal, folder, inputs))
    work_all()
    return run


def answer(principal: Principal, run: Run, decisions: list[dict[str, Any]]) -> None:
    for decision in decisions:
        request = ApprovalRequest.objects.get(run=run, step_path=decision["step"], state="open")
        more = {k: v for k, v in decision.items() if k not in ("step", "verb")}
        decide(principal, request.id, verb=decision["verb"], **more)
        work_all()


def messages() -> list[str]:
    return [p.read_text() for p in sorted((config().data / "outbox").glob("*.eml"))]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("folder", "case"), cases())
def test_a_case_ends_as_its_folder_says(
    alice: User, principal: PrincipalOf, folder: Path, case: dict[str, Any]
) -> None:
    me, expected = principal(alice), case["expect"]
    if "refused_input" in expected:
        with pytest.raises(InvalidInput) as refused:
            start(me, folder, case["inputs"])
        assert expected["refused_input"] in refused.value.fields
        return
    run = start(me, folder, case["inputs"])
    with pytest.raises(MirrorNeuronError) if expected.get("refused_decision") else nullcontext():
        answer(me, run, case.get("decisions", []))
    run.refresh_from_db()
    committed = list(Effect.objects.filter(run_id=run.id, state="committed"))

    for key, value in expected.items():
        match key:
            case "status":
                assert run.status == value, run.error
            case "failed_step":
                assert statuses(run)[value] == "failed", run.error
            case "waits_at":
                assert ApprovalRequest.objects.get(run=run, state="open").step_path == value
            case "output":
                assert {k: run.output[k] for k in value} == value
            case "effects":
                assert len(committed) == len(value)
                for effect, want in zip(committed, value, strict=True):
                    assert effect.tool == want["tool"]
                    assert effect.state == want["state"]
                    assert effect.approved_by is not None
                    if "to" in want:
                        assert any(f"To: {want['to']}" in m for m in messages())
            case "never_recipient":
                assert not any(value in message for message in messages())
            case "summary_mentions":
                assert all(word in run.output["summary"] for word in value)
            case "sources_within":
                names = {p.name for p in (folder / value).iterdir()}
                assert {p["source"] for p in run.output["passages"]} <= names
            case "checks":
                found = {c["text"]: c["result"] for c in run.checks or []}
                assert {text: found[text] for text in value} == value, run.checks
            case "refused_decision":
                assert run.status == "waiting"
            case _:
                raise AssertionError(f"{case['id']} expects {key!r}, which nothing checks")


@pytest.mark.django_db(transaction=True)
def test_what_could_not_be_read_or_found_reaches_the_person_who_decides(
    alice: User, principal: PrincipalOf
) -> None:
    me = principal(alice)
    folder = next(f for f in FOLDERS if f.name == "customer_research_to_followup")
    version = import_blueprint(me, (folder / "blueprint.yaml").read_text())
    picture = store_file(me, "yard.png", b"\x89PNG\r\n\x1a\nrest")
    letter = store_file(me, "letter.md", b"Pellworth Ceramics opens a second kiln in March 2027.")
    page = store_file(me, "crm.html", b"<!doctype html><html><body>Pellworth</body></html>")
    documents = [str(picture.id), str(letter.id)]
    run = start_run(
        me, version, {"company": "Pellworth Ceramics", "documents": documents, "crm": str(page.id)}
    )
    work_all()
    answer(me, run, [{"step": "approve_final_email", "verb": "request_changes", "reason": "Be warmer."}])
    request = ApprovalRequest.objects.get(run=run, state="open")

    (remarks,) = [e["output"] for e in request.evidence if e["step"] == "remarks"]
    assert any(n.startswith("yard.png: It is a picture") for n in remarks["notes"])
    assert any("is a web page, not a table" in n for n in remarks["notes"])
    assert any("cannot follow requests in words" in n for n in remarks["notes"])
