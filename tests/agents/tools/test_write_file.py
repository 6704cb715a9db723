from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.agents.tools.base import DefiniteFailure, StepError
from apps.agents.tools.write_file import WRITE_FILE, content_of, parts_of
from apps.workspaces.models import StoredFile, Workspace
from tests.agents.tools.conftest import make_call

RUN = uuid4()


def write(workspace: Workspace, name: str = "a.txt", content: Any = "hello", **more: Any) -> dict[str, Any]:
    call = make_call({"name": name, "content": content}, workspace_id=workspace.id, run_id=RUN, **more)
    return WRITE_FILE.run(call)


def test_writes_into_the_runs_folder_and_offers_the_file(workspace: Workspace, data_folder: Path) -> None:
    result = write(workspace, "journal/2026-04.txt")
    assert (data_folder / "files-out" / str(RUN) / "journal/2026-04.txt").read_text() == "hello"
    stored = StoredFile.objects.get(id=result["file"]["id"])
    assert (stored.workspace, stored.name, stored.sha256) == (workspace, "2026-04.txt", result["sha256"])
    assert (result["name"], result["path"], result["size"]) == ("2026-04.txt", "journal/2026-04.txt", 5)


def test_the_same_call_again_changes_nothing(workspace: Workspace, data_folder: Path) -> None:
    first = write(workspace)
    assert write(workspace) == first
    assert StoredFile.objects.count() == 1
    assert len(list((data_folder / "files-out" / str(RUN)).iterdir())) == 1


def test_a_name_that_is_taken_is_refused(workspace: Workspace, data_folder: Path) -> None:
    write(workspace)
    for name in ("a.txt", "a.txt/b"):
        with pytest.raises(StepError, match="already there") as caught:
            write(workspace, name, "other")
        assert caught.value.permanent
    assert (data_folder / "files-out" / str(RUN) / "a.txt").read_text() == "hello"


@pytest.mark.parametrize(
    "name",
    [
        "../x", "/etc/passwd", "a/../../x", "a//b", "", "a/", ".hidden", "a/.git/config", "..", ".", "C:/x",
        "a\\..\\b",
        "a\x00b", "a\nb", "con:x", "x.", "x ", " x", "a/b/c/d/e/f/g", "x" * 200, "a\u202eb", "a*b",
    ],
)  # fmt: skip
def test_names_that_lead_elsewhere_are_refused(name: str, workspace: Workspace, data_folder: Path) -> None:
    with pytest.raises(StepError) as caught:
        write(workspace, name)
    assert caught.value.permanent
    assert not list(data_folder.rglob("*.txt"))


@given(st.text(max_size=60) | st.lists(st.sampled_from(["..", ".", "a", "", "~", "\\", "é"])).map("/".join))
def test_an_accepted_name_stays_inside(name: str) -> None:
    try:
        parts = parts_of(name)
    except StepError:
        return
    root = Path("/root/of/run")
    inside = Path(os.path.normpath(root.joinpath(*parts)))
    assert root in inside.parents
    assert inside.relative_to(root).parts == tuple(parts)


@pytest.mark.parametrize("planted", ["folder", "file"])
def test_a_planted_link_leads_nowhere(
    planted: str, workspace: Workspace, data_folder: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    root = data_folder / "files-out" / str(RUN)
    root.mkdir(parents=True)
    if planted == "folder":
        (root / "sub").symlink_to(outside)
    else:
        (root / "sub").mkdir()
        (root / "sub/a.txt").symlink_to(outside / "a.txt")
    with pytest.raises((StepError, DefiniteFailure)):
        write(workspace, "sub/a.txt")
    assert list(outside.iterdir()) == []


def test_a_full_disk_is_definite_and_leaves_nothing(
    workspace: Workspace, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(DefiniteFailure, match="No space left"):
        write(workspace)
    assert not (data_folder / "files-out" / str(RUN) / "a.txt").exists()


def test_rows_become_csv_without_formulas() -> None:
    rows = [{"text": "=HYPERLINK(1)", "amount": "-5.00"}, {"text": 'a,"b"', "amount": 7, "more": None}]
    assert content_of(rows, "x.csv") == b'text,amount,more\n\'=HYPERLINK(1),-5.00,\n"a,""b""",7,\n'
    assert content_of({"a": "ü"}, "x.json") == '{\n  "a": "ü"\n}\n'.encode()


def test_describes_and_simulates(workspace: Workspace, data_folder: Path) -> None:
    arguments = {"name": "a.txt", "content": "hello"}
    assert WRITE_FILE.describe(arguments) == (
        'The file "a.txt" (5 bytes) will be written to the run\'s output folder.'
    )
    WRITE_FILE.simulate(make_call(arguments, workspace_id=workspace.id))
    assert not (data_folder / "files-out").exists()
