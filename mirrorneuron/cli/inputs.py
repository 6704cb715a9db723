"""Inputs of a run as given on the command line: `-i key=value`, `--inputs FILE`, and files by path."""

from __future__ import annotations

import json
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click

from apps.workspaces import services
from apps.workspaces.access import Principal
from mirrorneuron.base.errors import InvalidInput
from mirrorneuron.base.ids import as_uuid
from mirrorneuron.cli.frame import read_text, say

MAX_FILES = 1000


def gather(
    principal: Principal, schema: dict[str, Any], pairs: tuple[str, ...], inputs_file: str | None
) -> dict[str, Any]:
    """The inputs for `start_run`, every file already stored and replaced by its id.

    schema: the contract's `inputs`. A pair wins over the same key in the file.
    Raises click.UsageError or InvalidInput, each naming the input.
    """
    properties = schema.get("properties") or {}
    given, base = _read(inputs_file)
    values = {k: _stored(principal, k, v, properties.get(k), base) for k, v in given.items()}
    collected: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise click.UsageError(f"-i {pair!r} is not key=value.")
        declared = properties.get(key) or {}
        if declared.get("format") == "files":
            collected.setdefault(key, []).append(text)
        else:
            collected[key] = text if declared.get("format") == "file" else typed(text, declared)
    for key in sorted((given.keys() | collected.keys()) - properties.keys()) if properties else []:
        near = get_close_matches(key, properties, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it knows {', '.join(properties)}."
        say(f"Input {key!r} is not one of the blueprint's: {hint}")
    for key, value in collected.items():
        values[key] = _stored(principal, key, value, properties.get(key), Path())
    return values


def typed(text: str, declared: dict[str, Any]) -> Any:
    """Read a text by the type its input declares; a text that does not fit stays one and is refused later."""
    kinds = declared.get("type")
    kinds = [kinds] if isinstance(kinds, str) else kinds or []
    if "string" in kinds:
        return text
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if kinds or not isinstance(value, str) else text


def _read(inputs_file: str | None) -> tuple[dict[str, Any], Path]:
    if inputs_file is None:
        return {}, Path()
    text = read_text("--inputs", inputs_file)
    base = Path() if inputs_file == "-" else Path(inputs_file).expanduser().parent
    try:
        found = json.loads(text)
    except ValueError as exc:
        raise click.UsageError(f"--inputs {inputs_file} is not JSON: {exc}.") from exc
    if not isinstance(found, dict):
        raise click.UsageError(f"--inputs {inputs_file} holds a {type(found).__name__}, not one JSON object.")
    return found, base


def _stored(principal: Principal, key: str, value: Any, declared: Any, base: Path) -> Any:
    """A value with its paths replaced by ids of stored files; other values pass through."""
    format_ = declared.get("format") if isinstance(declared, dict) else None
    if format_ == "file":
        files = _files(principal, key, [value], base)
        if len(files) != 1:
            raise _wrong(key, f"{value} is a folder with {len(files)} files; {key} takes one file.")
        return files[0]
    if format_ == "files":
        return _files(principal, key, value if isinstance(value, list) else [value], base)
    return value


def _files(principal: Principal, key: str, given: list[Any], base: Path) -> list[Any]:
    found: list[Any] = []
    for item in given:
        if not isinstance(item, str):
            found.append(item)  # A file value or something start_run refuses by its path.
            continue
        path = base / Path(item).expanduser()
        if not path.exists() and as_uuid(item):
            found.append(item)
            continue
        for one in _below(key, path):
            try:
                data = one.read_bytes()
            except OSError as exc:
                raise _wrong(key, f"{one} cannot be read ({exc.strerror}).") from exc
            found.append(str(services.store_file(principal, one.name, data).id))
        if len(found) > MAX_FILES:
            raise _wrong(key, f"More than {MAX_FILES} files were named.")
    return found


def _below(key: str, path: Path) -> list[Path]:
    """The file itself, or every file in the folder and below, in a fixed order, hidden ones left out.

    A link inside the folder that leads out of it is refused: the folder may come from somebody else, and
    what is named here is read, kept and shown to models.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise _wrong(key, f"There is no file or folder {path}.")
    inside = [
        p
        for p in sorted(path.rglob("*"))
        if p.is_file() and not any(part.startswith(".") for part in p.relative_to(path).parts)
    ]
    if not inside:
        raise _wrong(key, f"The folder {path} holds no files.")
    whole = path.resolve()
    for one in inside:
        if not one.resolve().is_relative_to(whole):
            raise _wrong(key, f"{one} is a link that leads out of the folder; name its target by itself.")
    return inside


def _wrong(key: str, sentence: str) -> InvalidInput:
    return InvalidInput(f"Input {key!r}: {sentence}", fields={key: sentence}, next="Correct the path.")
