import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.workspaces import files, selectors, services
from apps.workspaces.errors import FileBytesMissing, FileNotFound, FileTooLarge
from mirrorneuron.base.errors import Forbidden, Unavailable


@pytest.mark.django_db
def test_same_bytes_lie_once_and_the_same_file_is_one_row(alice, principal, data_folder):
    who = principal(alice)
    first = services.store_file(who, "notes.md", b"hello")
    assert services.store_file(who, "notes.md", b"hello") == first
    other = services.store_file(who, "copy.md", b"hello")
    assert other.id != first.id and other.sha256 == first.sha256
    assert len([p for p in (data_folder / "files").rglob("*") if p.is_file()]) == 1
    assert first.as_value() == {
        "id": str(first.id),
        "name": "notes.md",
        "sha256": first.sha256,
        "media_type": "text/markdown",
        "size": 5,
    }


@pytest.mark.django_db
def test_bytes_come_back_and_a_stranger_gets_not_found(alice, charlie, principal, workspace, elsewhere):
    file = services.store_file(principal(alice), "a.csv", b"a,b\n")
    assert selectors.file_bytes(workspace.id, str(file.id)) == (file, b"a,b\n")
    assert selectors.file_for(principal(alice), file.id) == file
    for attempt in (
        lambda: selectors.file_for(principal(charlie), file.id),
        lambda: selectors.file_bytes(elsewhere.id, file.id),
        lambda: selectors.file_for(principal(alice), "../../etc/passwd"),
    ):
        with pytest.raises(FileNotFound):
            attempt()


@pytest.mark.django_db
def test_file_over_the_limit_is_refused_and_nothing_stays(alice, principal, data_folder, monkeypatch):
    monkeypatch.setattr(files, "MAX_BYTES", 10)
    with pytest.raises(FileTooLarge):
        services.store_file(principal(alice), "big.txt", b"x" * 11)
    assert not (data_folder / "files").exists()


@pytest.mark.django_db
@pytest.mark.parametrize("given", ["x/" + "y" * 500, "text/html\r\nX: 1", "none", "tëxt/html", ""])
def test_a_media_type_that_is_none_is_guessed_from_the_name(alice, principal, given):
    assert services.store_file(principal(alice), "a.csv", b"a", given).media_type == "text/csv"


@pytest.mark.django_db
def test_viewer_stores_nothing(alice, bob, principal):
    services.add_member(principal(alice), bob, ["viewer"])
    with pytest.raises(Forbidden):
        services.store_file(principal(bob), "a.txt", b"a")


@pytest.mark.django_db
def test_missing_or_altered_bytes_are_said(alice, principal, workspace):
    file = services.store_file(principal(alice), "a.txt", b"abc")
    files.path_of(file.sha256).write_bytes(b"ab")
    with pytest.raises(FileBytesMissing, match="2 long"):
        selectors.file_bytes(workspace.id, file.id)
    files.path_of(file.sha256).unlink()
    with pytest.raises(FileBytesMissing, match=r"a\.txt"):
        selectors.file_bytes(workspace.id, file.id)


def test_write_that_dies_leaves_no_half_file(data_folder, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(Unavailable, match="No space left"):
        files.keep(b"some bytes")
    assert not [p for p in (data_folder / "files").rglob("*") if p.is_file()]


@pytest.mark.parametrize(
    ("given_name", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\report.pdf", "report.pdf"),
        (".hidden", "hidden"),
        ("", "file"),
        ("...", "file"),
        ("a\x00b\n.txt", "ab.txt"),
        ("folder/", "folder"),
        ("Ångström.md", "Ångström.md"),
    ],
)
def test_name_loses_folders_and_control_characters(given_name, kept):
    assert files.clean_name(given_name) == kept


@given(st.text(max_size=400))
def test_any_name_becomes_a_usable_one(name):
    kept = files.clean_name(name)
    assert kept and len(kept.encode()) <= 255
    assert "/" not in kept and "\\" not in kept and not kept.startswith(".")
    assert files.clean_name(kept) == kept


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("a.md", "text/markdown"),
        ("A.PDF", "application/pdf"),
        ("x.csv", "text/csv"),
        ("x.html", "text/html"),
        ("noending", "application/octet-stream"),
    ],
)
def test_media_type_is_guessed_by_name(name, media_type):
    assert files.guess_media_type(name) == media_type
