"""The pages for readers name what there is: every setting, command, dependency, node kind; no dead link."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from apps.blueprints.core.kinds import PORTS
from mirrorneuron.cli import COMMANDS
from mirrorneuron.config import Config

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("blueprints/*/*.md")])


def text(name: str) -> str:
    return (ROOT / name).read_text()


def test_every_setting_is_in_the_reference() -> None:
    named = {field.alias for field in Config.model_fields.values() if field.alias}

    assert not {name for name in named if f"`{name}" not in text("docs/reference/settings.md")}


def test_every_command_is_in_the_reference() -> None:
    assert not {name for name in COMMANDS if f"mn {name}" not in text("docs/reference/command-line.md")}


def test_every_node_kind_and_its_ports_are_in_the_reference() -> None:
    page = text("docs/reference/blueprint-format.md")

    assert not {kind for kind in PORTS if f"`{kind}`" not in page}


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads(text("pyproject.toml"))["project"]
    names = {re.split(r"[<>=~!\[]", requirement)[0] for requirement in project["dependencies"]}
    page = text("ARCHITECTURE.md")

    assert not {name for name in names if not re.search(rf"`{re.escape(name)}(\[[a-z,]+\])?`", page)}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_link_is_dead(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())
    dead = [t for t in targets if "://" not in t and not (page.parent / t).exists()]

    assert not dead
