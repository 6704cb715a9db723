"""The first gallery blueprint, start to end, through the API alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.core.files.uploadedfile import SimpleUploadedFile

from apps.blueprints.services import sync_gallery
from apps.workspaces.models import User
from tests.api.conftest import BASE, CallerOf
from tests.runs.engine import work_all

NAME = "customer_research_to_followup"


def test_documents_in_one_approved_message_out(
    alice: User, caller: CallerOf, settings: Any, data_folder: Path
) -> None:
    api = caller(alice)
    folder = Path(settings.GALLERY_DIR) / NAME / "inputs"
    sync_gallery(settings.GALLERY_DIR)

    def upload(path: Path) -> str:
        sent = {"file": SimpleUploadedFile(path.name, path.read_bytes())}
        return str(api.http.post(f"{BASE}/files", sent, headers=api.headers).json()["id"])

    def stored(value: Any) -> Any:
        """A path of the sample as the id of its upload; a folder is every file in it."""
        path = folder / str(value)
        if path.is_dir():
            return [upload(one) for one in sorted(path.rglob("*")) if one.is_file()]
        return upload(path) if path.is_file() else value

    sample = json.loads((folder / "sample.json").read_text())
    inputs = {name: stored(value) for name, value in sample.items()}
    started = api.post("/runs", {"blueprint": NAME, "inputs": inputs}, Idempotency_Key="demo")
    assert started.status_code == 202, started.content
    run = started.json()["id"]
    work_all()
    steps = {s["path"]: (s["status"], s["error"]) for s in api.get(f"/runs/{run}/steps").json()["items"]}
    assert steps["approve_final_email"][0] == "waiting", steps
    (question,) = api.get("/approvals").json()["items"]
    card = api.get(f"/approvals/{question['id']}").json()
    assert card["tool"] == "send_email" and card["arguments"]["to"] in card["effect"]
    assert "research" in {e["step"] for e in card["evidence"]}
    assert list(data_folder.glob("outbox/*")) == []

    body = card["arguments"]["body"] + "\n\nEdited by a person."
    path = f"/approvals/{question['id']}/decision"
    for _ in range(2):
        decided = api.post(path, {"verb": "approve", "edits": {"body": body}}, If_Match='"1"')
        assert decided.status_code == 200, decided.content
    work_all()
    done = api.get(f"/runs/{run}").json()
    assert done["status"] == "succeeded", done["error"]
    (effect,) = api.get(f"/runs/{run}/effects").json()["items"]
    assert effect["state"] == "committed" and effect["arguments"]["body"] == body
    assert effect["approved_by"] and effect["attempts"] == 1
    assert len([f for f in data_folder.glob("outbox/*") if f.is_file()]) == 1
    assert api.get(f"/runs/{run}/costs").json()["unknown"] is False
    assert "succeeded" in api.get(f"/runs/{run}/explain").json()["why"]
