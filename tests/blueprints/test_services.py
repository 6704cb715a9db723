"""Versions: immutable, numbered without gaps or collisions, the same content stored once."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, connections

from apps.blueprints import ports, selectors, services
from apps.blueprints.core.parse import plain_dump
from apps.blueprints.core.tools import ToolSpec
from apps.blueprints.errors import (
    BlueprintArchived,
    BlueprintInvalid,
    BlueprintNotFound,
    NameMismatch,
    NameTaken,
    VersionNotFound,
)
from apps.blueprints.models import Blueprint, GalleryItem, Version
from apps.blueprints.publishing import publish_as_it_stands
from apps.workspaces.models import AuditEntry
from mirrorneuron.base.errors import Forbidden
from tests.blueprints.samples import BLUEPRINT, TOOLS, changed

GALLERY = Path(__file__).parents[2] / "blueprints"


class _Catalog:
    def specs(self) -> dict[str, ToolSpec]:
        return TOOLS


@pytest.fixture
def small_catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the tools of the samples."""
    monkeypatch.setattr(ports, "_catalog", _Catalog())


pytestmark = [pytest.mark.django_db]


def text(**metadata: Any) -> str:
    return plain_dump(changed(lambda d: d["metadata"].update(metadata)))


@pytest.fixture
def owner(alice: Any, principal: Any, small_catalog: None) -> Any:
    return principal(alice)


def test_publishing_counts_up_and_identical_content_gives_the_version_there_is(owner: Any) -> None:
    first = services.import_blueprint(owner, text())
    again = services.import_blueprint(owner, "# Only a comment more.\n" + text())
    second = services.publish(owner, "follow_up", text(title="Better"), notes="better title")
    back = services.publish(owner, "follow_up", text())
    assert (first.number, second.number) == (1, 2)
    assert again.pk == first.pk == back.pk
    blueprint = selectors.blueprint_for(owner, "follow_up")
    assert blueprint.title == "Better"
    assert selectors.version_for(owner, "follow_up").pk == second.pk
    assert [b.latest_number for b in selectors.blueprints_for(owner)] == [2]  # type: ignore[attr-defined]


def test_the_text_comes_back_as_it_was_written(owner: Any) -> None:
    source = "# Mine.\n" + text()
    services.import_blueprint(owner, source)
    services.publish(owner, "follow_up", text(title="Another"))
    assert services.export(owner, "follow_up", 1) == source
    assert "Another" in services.export(owner, "follow_up")


def test_an_unpublished_version_has_no_number_until_it_is_published(owner: Any) -> None:
    version = services.store_unpublished(owner, text())
    assert version.number is None
    assert services.store_unpublished(owner, text()).pk == version.pk
    with pytest.raises(VersionNotFound):
        services.version_for_run(owner, "follow_up")
    published = publish_as_it_stands(owner, "follow_up")
    assert (published.pk, published.number) == (version.pk, 1)
    assert services.version_for_run(owner, "follow_up@1").pk == version.pk


def test_a_stored_version_never_changes(owner: Any) -> None:
    version = services.import_blueprint(owner, text())
    version.source = "something else"
    with pytest.raises(TypeError):
        version.save()
    with pytest.raises(TypeError):
        version.give_number(7)
    assert Version.objects.get().number == 1


def test_an_incomplete_card_stops_publishing_but_not_trying(owner: Any) -> None:
    source = plain_dump(changed(lambda d: d.pop("card")))
    with pytest.raises(BlueprintInvalid) as refused:
        services.import_blueprint(owner, source)
    assert {p.code for p in refused.value.problems if p.level == "error"} == {"card_incomplete"}
    assert not Blueprint.objects.exists()
    assert services.store_unpublished(owner, source).number is None


def test_publishing_under_another_name_is_refused(owner: Any) -> None:
    services.import_blueprint(owner, text())
    with pytest.raises(NameMismatch):
        services.publish(owner, "follow_up", text(name="another"))
    assert Blueprint.objects.count() == 1


def test_an_archived_blueprint_starts_and_publishes_nothing(owner: Any) -> None:
    services.import_blueprint(owner, text())
    services.archive(owner, "follow_up")
    assert not selectors.blueprints_for(owner).exists()
    for attempt in (
        lambda: services.version_for_run(owner, "follow_up"),
        lambda: services.import_blueprint(owner, text(title="x")),
        lambda: services.store_unpublished(owner, text(title="x")),
    ):
        with pytest.raises(BlueprintArchived):
            attempt()
    services.restore(owner, "follow_up")
    assert services.version_for_run(owner, "follow_up").number == 1


def test_each_publication_is_audited(owner: Any) -> None:
    services.import_blueprint(owner, text(), notes="first")
    entry = AuditEntry.objects.get(action="blueprint.published")
    assert entry.target == "follow_up@1" and entry.data["notes"] == "first"


def test_missing_names_and_versions_say_what_there_is(owner: Any) -> None:
    services.import_blueprint(owner, text())
    with pytest.raises(BlueprintNotFound) as missing:
        services.version_for_run(owner, "folow_up")
    assert '"follow_up"' in missing.value.next
    with pytest.raises(VersionNotFound) as later:
        services.version_for_run(owner, "follow_up@9")
    assert "follow_up@1" in later.value.next
    with pytest.raises(BlueprintNotFound):
        services.version_for_run(owner, "follow_up@x")


def test_a_stranger_sees_nothing_and_a_member_without_the_role_writes_nothing(
    owner: Any, bob: Any, charlie: Any, principal: Any
) -> None:
    services.import_blueprint(owner, text())
    with pytest.raises(BlueprintNotFound):
        selectors.blueprint_for(principal(charlie), "follow_up")
    for attempt in (services.import_blueprint, services.store_unpublished):
        with pytest.raises(Forbidden):
            attempt(principal(bob), text(title="x"))
    assert services.version_for_run(principal(bob), "follow_up").number == 1


def test_documents_are_read_once(owner: Any) -> None:
    version = services.import_blueprint(owner, text())
    document = selectors.document_of(Version.objects.get(pk=version.pk))
    assert selectors.document_of(version) is document
    assert document.metadata.name == "follow_up"
    assert set(selectors.tools_of(document)) == set(TOOLS)


@pytest.mark.parametrize("odd", ["nul \x00", "half \ud800"])
def test_text_that_databases_refuse_is_refused_with_its_line(owner: Any, odd: str) -> None:
    data = json.dumps(changed(lambda d: d["metadata"].update(summary=odd)), indent=1)
    with pytest.raises(BlueprintInvalid) as refused:
        services.import_blueprint(owner, data)
    (problem,) = [p for p in refused.value.problems if p.level == "error"]
    assert (problem.code, problem.path) == ("bad_character", "metadata.summary")
    assert problem.line is not None and "summary" in data.splitlines()[problem.line - 1]


@pytest.mark.django_db(transaction=True)
def test_concurrent_publications_get_different_numbers(owner: Any) -> None:
    services.import_blueprint(owner, text())
    numbers: list[int | None] = []
    failures: list[BaseException] = []
    start = threading.Barrier(4)

    def publish(title: str) -> None:
        try:
            start.wait(10)
            numbers.append(services.publish(owner, "follow_up", text(title=title)).number)
        except BaseException as exc:
            failures.append(exc)
        finally:
            connections.close_all()

    # Two of the four say the same thing: they must end up with one version.
    threads = [threading.Thread(target=publish, args=(title,)) for title in ("a", "b", "c", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert sorted(set(numbers)) == [2, 3, 4]  # type: ignore[type-var]
    assert Version.objects.count() == 4


# --- gallery ----------------------------------------------------------------------------------------------


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    folder = tmp_path / "gallery" / "follow_up"
    (folder / "inputs").mkdir(parents=True)
    (folder / "blueprint.yaml").write_text(text(tags=["mail"]))
    (folder / "README.md").write_text("# Follow up\n")
    (folder / "inputs" / "sample.json").write_text('{"company": "Quill"}')
    return folder.parent


def test_the_gallery_is_a_copy_of_the_disk(owner: Any, shelf: Path) -> None:
    assert services.sync_gallery(shelf) == ["follow_up"]
    assert services.sync_gallery(shelf) == []
    item = selectors.gallery_item("follow_up")
    assert (item.readme, item.samples, item.tags) == ("# Follow up\n", {"company": "Quill"}, ["mail"])
    assert selectors.document_of(item).metadata.name == "follow_up"
    (shelf / "follow_up" / "README.md").write_text("# Changed\n")
    assert services.sync_gallery(shelf) == ["follow_up"]
    (shelf / "follow_up" / "blueprint.yaml").unlink()
    assert services.sync_gallery(shelf) == ["follow_up"]
    assert not selectors.gallery().exists()


def test_a_broken_folder_does_not_stop_the_others(owner: Any, shelf: Path) -> None:
    (shelf / "broken").mkdir()
    (shelf / "broken" / "blueprint.yaml").write_text("a: [")
    (shelf / "latin").mkdir()
    (shelf / "latin" / "blueprint.yaml").write_bytes(b"\xff\xfe\xfa")
    (shelf / "follow_up" / "inputs" / "sample.json").write_text("{")
    assert services.sync_gallery(shelf) == ["follow_up"]
    assert selectors.gallery_item("follow_up").samples == {}
    assert services.sync_gallery(shelf / "nowhere") == ["follow_up"]


def test_running_a_gallery_name_installs_it_once(owner: Any, shelf: Path, bob: Any, principal: Any) -> None:
    services.sync_gallery(shelf)
    version = services.version_for_run(principal(bob), "follow_up")
    assert version.number == 1
    assert version.blueprint.origin["gallery"] == "follow_up"
    assert services.install(owner, "follow_up").pk == version.pk
    assert services.version_for_run(owner, "follow_up").pk == version.pk


def test_a_newer_gallery_text_does_not_replace_an_installed_one(owner: Any, shelf: Path) -> None:
    services.sync_gallery(shelf)
    version = services.install(owner, "follow_up")
    (shelf / "follow_up" / "blueprint.yaml").write_text(text(title="Newer"))
    services.sync_gallery(shelf)
    assert services.install(owner, "follow_up").pk == version.pk


def test_an_own_blueprint_of_the_same_name_is_not_overwritten(owner: Any, shelf: Path) -> None:
    mine = services.import_blueprint(owner, text(title="Mine"))
    services.sync_gallery(shelf)
    with pytest.raises(NameTaken):
        services.install(owner, "follow_up")
    assert services.version_for_run(owner, "follow_up").pk == mine.pk


def test_the_shipped_gallery_is_whole(workspace: Any) -> None:
    folders = sorted(p.parent.name for p in GALLERY.glob("*/blueprint.yaml"))
    assert sorted(services.sync_gallery(GALLERY)) == folders
    for item in GalleryItem.objects.all():
        assert [p.code for p in selectors.problems_of(item) if p.level == "error"] == []
        assert item.readme and item.samples
    assert connection.vendor in ("sqlite", "postgresql")
    assert BLUEPRINT["metadata"]["name"] == "follow_up"
