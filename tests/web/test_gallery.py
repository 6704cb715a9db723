"""The gallery shows what a blueprint does, and one click runs it."""

from __future__ import annotations

import json
from html import unescape

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from apps.runs.models import Run
from apps.workspaces.models import StoredFile, User
from tests.web.conftest import DEMO, ClientOf

RESEARCH = "customer_research_to_followup"


def test_a_card_shows_the_real_picture_and_what_is_touched(
    gallery: list[str], browser: ClientOf, alice: User
) -> None:
    html = unescape(browser(alice).get("/gallery").content.decode())
    assert html.count('data-testid="gallery-card"') == len(gallery)
    assert 'data-node-id="send"' in html
    assert "only after a person approves" in html
    assert "No runs yet" in html


def test_one_click_runs_the_shipped_samples_as_a_demo(demo: Run, browser: ClientOf, alice: User) -> None:
    assert demo.is_demo and demo.status == "waiting"
    assert demo.inputs["invoices"]["name"] == "invoices.csv"
    assert "1 run" in browser(alice).get("/gallery").content.decode()


def test_a_doubled_click_starts_one_run(demo: Run, browser: ClientOf, alice: User) -> None:
    again = browser(alice).post(f"/gallery/{DEMO}/run", {"key": "first"})
    assert again.headers["Location"].endswith(str(demo.id))
    assert Run.objects.count() == 1


def test_opening_the_run_address_starts_nothing(gallery: list[str], browser: ClientOf, alice: User) -> None:
    assert browser(alice).get(f"/gallery/{DEMO}/run").status_code == 405
    assert Run.objects.count() == 0


def test_reloading_a_form_with_errors_comes_back_to_the_form(demo: Run, browser: ClientOf, bob: User) -> None:
    client = browser(bob)
    for path, home in (("gallery", "run-own"), ("blueprints", "run")):
        answer = client.get(f"/{path}/{DEMO}/{home}")
        assert answer.headers["Location"] == f"/{path}/{DEMO}"


def test_a_viewer_reads_but_does_not_run(gallery: list[str], browser: ClientOf, viewer: User) -> None:
    client = browser(viewer)
    assert client.get("/gallery").status_code == 200
    refused = client.post(f"/gallery/{DEMO}/run", {"key": "k"})
    assert refused.status_code == 403 and "operator" in refused.content.decode()
    assert Run.objects.count() == 0


def test_own_documents_come_in_as_uploads(gallery: list[str], browser: ClientOf, bob: User) -> None:
    answer = browser(bob).post(
        f"/gallery/{RESEARCH}/run-own",
        {
            "key": "k",
            "in.company": "Quillfeather",
            "in.documents": [SimpleUploadedFile("a.md", b"# A"), SimpleUploadedFile("b.txt", b"B")],
            "in.documents.folder": [
                SimpleUploadedFile("c.txt", b"C"),
                SimpleUploadedFile(".DS_Store", b"x"),
            ],
        },
    )
    assert answer.status_code == 302
    run = Run.objects.get()
    assert [file["name"] for file in run.inputs["documents"]] == ["a.md", "b.txt", "c.txt"]
    assert not run.is_demo


def test_an_error_stands_at_its_field_and_loses_nothing(
    gallery: list[str], browser: ClientOf, bob: User
) -> None:
    client = browser(bob)
    answer = client.post(
        f"/gallery/{RESEARCH}/run-own",
        {
            "key": "k",
            "in.objective": "Say hello <b>",
            "in.documents": [SimpleUploadedFile("notes.md", b"# Notes")],
        },
    )
    html = answer.content.decode()
    stored = StoredFile.objects.get(name="notes.md")
    assert answer.status_code == 422 and Run.objects.count() == 0
    assert 'id="in-company-error"' in html and "Fill this in." in html
    assert 'value="Say hello &lt;b&gt;"' in html
    assert f'name="in.documents.kept" value="{stored.id}"' in html
    second = client.post(
        f"/gallery/{RESEARCH}/run-own",
        {"key": "k", "in.company": "Quillfeather", "in.documents.kept": [str(stored.id)]},
    )
    assert second.status_code == 302
    assert Run.objects.get().inputs["documents"][0]["id"] == str(stored.id)


def test_what_the_schema_refuses_comes_back_in_words(
    gallery: list[str], browser: ClientOf, bob: User
) -> None:
    answer = browser(bob).post(f"/gallery/{RESEARCH}/run-own", {"in.company": "x" * 121})
    assert answer.status_code == 422
    assert 'id="in-company-error"' in answer.content.decode()


def test_another_workspaces_file_is_not_taken(
    gallery: list[str], browser: ClientOf, bob: User, charlie: User, principal: object
) -> None:
    from apps.workspaces.services import store_file

    theirs = store_file(principal(charlie), "secret.md", b"secret")  # type: ignore[operator]
    browser(bob).post(
        f"/gallery/{RESEARCH}/run-own", {"in.company": "Q", "in.documents.kept": [str(theirs.id)]}
    )
    assert all("secret" not in json.dumps(run.inputs) for run in Run.objects.all())


@pytest.mark.parametrize("path", ["/gallery/customer_reserch", "/blueprints/nothing", "/gallery/../etc"])
def test_an_unknown_blueprint_is_not_found(
    gallery: list[str], browser: ClientOf, alice: User, path: str
) -> None:
    assert browser(alice).get(path).status_code == 404


def test_an_installed_blueprint_shows_its_versions_and_source(
    demo: Run, browser: ClientOf, alice: User
) -> None:
    client = browser(alice)
    html = client.get(f"/blueprints/{DEMO}").content.decode()
    assert "Version 1" in html and "apiVersion: mirrorneuron/v1" in html
    assert client.get(f"/blueprints/{DEMO}?version=1").status_code == 200
    assert client.get(f"/blueprints/{DEMO}?version=7").status_code == 404
    assert client.get(f"/blueprints/{DEMO}?version=x").status_code == 404
