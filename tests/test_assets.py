"""The bundle is built when something has changed, and only then; without it the pages say so and work."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
from pathlib import Path

import pytest
from django.template import Context, Template

from apps.blueprints.core import svg
from apps.blueprints.core.layout import METRICS
from mirrorneuron import assets

ROOT = Path(__file__).resolve().parent.parent
LOCK = (ROOT / "static" / "package-lock.json").read_text()


@pytest.fixture
def static(tmp_path: Path) -> Path:
    for folder in assets.SOURCES:
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "src/graph/main.jsx").write_text("1")
    (tmp_path / "package-lock.json").write_text("{}")
    return tmp_path


def built(static: Path) -> None:
    (static / "dist").mkdir()
    (static / "dist" / assets.STAMP).write_text(assets.fingerprint(static))


def test_a_changed_source_or_lock_makes_the_bundle_stale(static: Path) -> None:
    built(static)
    assert assets.is_current(static)
    (static / "package-lock.json").write_text('{"a": 1}')
    assert not assets.is_current(static)
    (static / "package-lock.json").write_text("{}")
    assert assets.is_current(static)
    (static / "src/graph/core.js").write_text("")
    assert not assets.is_current(static)


def test_nothing_is_started_while_the_bundle_is_current(
    static: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built(static)
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: pytest.fail("something was started"))
    assert assets.build(static) == static / "dist"


def test_a_machine_without_node_is_told_so(static: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "node_folder", lambda: None)
    with pytest.raises(assets.BuildFailed, match="No Node was found"):
        assets.build(static)


def test_a_failed_build_leaves_the_old_bundle_and_says_why(
    static: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if assets.node_folder() is None:
        pytest.skip("Node was not found; `make install` brings it.")
    (static / "dist").mkdir()
    (static / "dist" / "manifest.json").write_text("{}")
    (static / "build.mjs").write_text("throw new Error('the sea is rough')")
    monkeypatch.setattr(assets, "_install", lambda *a: None)
    with pytest.raises(assets.BuildFailed, match="the sea is rough"):
        assets.build(static)
    assert [path.name for path in (static / "dist").iterdir()] == ["manifest.json"]
    assert not list(static.glob(".dist-*"))


def test_the_tag_names_the_hashed_files_and_nothing_where_none_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"graph": {"js": "graph-1.js", "css": "graph-2.css"}}))
    files = assets.bundle_files
    monkeypatch.setattr("apps.web.templatetags.mn.bundle_files", lambda name: files(name, tmp_path))

    def drawn(text: str) -> str:
        return Template("{% load mn %}" + text).render(Context())

    assert drawn("{% bundle 'graph' %}") == (
        '<link rel="stylesheet" href="/static/dist/graph-2.css">'
        '<script type="module" src="/static/dist/graph-1.js"></script>'
    )
    assert drawn("{% bundle 'yaml' %}") == ""
    assert drawn("{% has_bundle 'graph' as there %}{{ there }}") == "True"


def test_packages_are_pinned_and_the_lock_names_no_host() -> None:
    package = json.loads((ROOT / "static" / "package.json").read_text())
    versions = {**package["dependencies"], **package["devDependencies"]}
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in versions.values()), versions
    assert "://" not in LOCK and '"resolved"' not in LOCK
    names = [name for name in json.loads(LOCK)["packages"] if name]
    assert names and all("integrity" in json.loads(LOCK)["packages"][name] for name in names)


@pytest.mark.parametrize(("bundle", "limit"), [("graph", 170), ("yaml", 200)])
def test_bundles_stay_small(bundle: str, limit: int) -> None:
    """KB as sent, style and script together."""
    files = assets.bundle_files(bundle)
    if not files:
        pytest.skip(f'The bundle "{bundle}" has not been built.')
    weight = sum(len(gzip.compress((assets.DIST / name).read_bytes())) for name in files.values())
    assert weight <= limit * 1000


@pytest.mark.parametrize(("script", "limit"), [("app", 10), ("editor", 60)])
def test_what_pages_load_stays_small(script: str, limit: int) -> None:
    """KB as sent of our own scripts, with all they import; htmx not counted. Every page loads the first."""
    scripts = imported(ROOT / "static" / "src" / "js" / f"{script}.js")
    weight = sum(len(gzip.compress(path.read_bytes())) for path in scripts)
    assert weight <= limit * 1000


def imported(script: Path) -> set[Path]:
    """A script and everything it imports."""
    found, waiting = {script.resolve()}, [script.resolve()]
    while waiting:
        here = waiting.pop()
        for name in re.findall(r'^import .*?"(\.[^"]+)";$', here.read_text(), re.MULTILINE):
            there = (here.parent / name).resolve()
            if there not in found:
                found.add(there)
                waiting.append(there)
    return found


def test_the_pure_parts_of_the_canvas_pass_their_own_tests() -> None:
    folder = assets.node_folder()
    if folder is None:
        pytest.skip("Node was not found; `make install` brings it.")
    tests = sorted(str(path) for path in (ROOT / "tests" / "js").glob("*.test.mjs"))
    done = subprocess.run(
        [str(folder / "node"), "--test", *tests], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    ran = re.search(r"^\S* ?tests (\d+)$", done.stdout, re.MULTILINE)
    assert ran and int(ran[1]) > 0, done.stdout


def test_every_key_of_the_canvas_is_in_its_page() -> None:
    keys = (ROOT / "static" / "src" / "graph" / "core" / "keys.js").read_text()
    page = (ROOT / "docs" / "editor.md").read_text()
    said = re.findall(r'shown: "([^"]+)", says: "([^"]+)"', keys)
    assert len(said) > 20
    assert [row for row in said if f"| <kbd>{row[0]}</kbd> | {row[1]} |" not in page] == []


def test_canvas_and_picture_draw_the_same_signs() -> None:
    signs = (ROOT / "static" / "src" / "graph" / "core" / "signs.js").read_text()
    drawn = [*svg._BADGES.values(), *svg._MARKS.values(), *svg.STATE_WORDS.values()]
    assert [sign for sign in drawn if f'"{sign}"' not in signs] == []


def test_canvas_and_picture_draw_containers_of_one_size() -> None:
    containers = (ROOT / "static" / "src" / "graph" / "core" / "containers.js").read_text()
    full = METRICS["full"]
    assert f"const PADDING = {full.padding};" in containers
    assert f"const HEADER = {full.header};" in containers
    assert f"const SMALLEST = {{ w: {full.width}, h: {full.height} }};" in containers


def test_one_file_alone_knows_the_library() -> None:
    sources = (ROOT / "static" / "src").rglob("*.js*")
    importers = {path.name for path in sources if re.search(r'from "@xyflow', path.read_text())}
    assert importers == {"adapter.jsx"}
