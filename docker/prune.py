"""Take out of a virtual environment whatever the product does not need to run.

The lock holds the tools of development too. What stays: the dependencies of pyproject.toml, with theirs, and
pip. Run by the environment's own Python while the image is built; `--list` only names what would go.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement

KEPT = {"pip", "setuptools"}


def name_of(text: str) -> str:
    return re.sub(r"[-_.]+", "-", text).lower()


def needed(requirements: list[str]) -> set[str]:
    """Names of these requirements and of everything they ask for here."""
    found: set[tuple[str, frozenset[str]]] = set()
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        wanted = waiting.pop()
        key = (name_of(wanted.name), frozenset(wanted.extras))
        if key in found:
            continue
        found.add(key)
        try:
            lines = metadata.requires(wanted.name) or []
        except metadata.PackageNotFoundError:
            continue  # Not for this platform.
        for line in lines:
            asked = Requirement(line)
            extras = [*wanted.extras, ""]
            if asked.marker is None or any(asked.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(asked)
    return {name for name, _ in found}


def superfluous(pyproject: Path) -> list[str]:
    project = tomllib.loads(pyproject.read_text())["project"]
    kept = needed(project["dependencies"]) | KEPT
    installed = {name_of(d.metadata["Name"]) for d in metadata.distributions()}
    return sorted(installed - kept)


def main() -> None:
    names = superfluous(Path("pyproject.toml"))
    if "--list" in sys.argv:
        sys.stdout.write("\n".join(names) + "\n")
    elif names:
        command = [sys.executable, "-m", "pip", "uninstall", "-q", "-y", *names]
        subprocess.run(command, check=True)  # noqa: S603 - names of packages that are installed


if __name__ == "__main__":
    main()
