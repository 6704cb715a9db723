"""`write_file`: one file in the run's own folder, offered for download on the run page.

The folder is MN_DATA/files-out/<run id>/. Every part of the name is opened relative to the folder before it
and never through a symbolic link, so no name and no planted link leads out. Writing the same bytes again
changes nothing, which makes the tool idempotent; other bytes under a name that is taken are refused.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import unicodedata
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any

from apps.agents.tools.base import DefiniteFailure, EffectClass, StepError, Tool, ToolRun, ToolSpec
from apps.workspaces import services
from apps.workspaces.models import Workspace
from mirrorneuron.base.errors import MirrorNeuronError
from mirrorneuron.config import config

MAX_BYTES = 50 * 1024 * 1024
MAX_PARTS = 6
MAX_PART_BYTES = 120
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW

SPEC = ToolSpec(
    name="write_file",
    description="Write one file into the run's output folder.",
    permission="write files into the run's output folder",
    parameters={
        "type": "object",
        "required": ["name", "content"],
        "additionalProperties": False,
        "properties": {
            "name": {
                "type": "string",
                "minLength": 1,
                "maxLength": 400,
                "description": "File name, with folders if wanted: `journal/2026-04.csv`.",
            },
            "content": {
                "description": "Text as it is; a list of objects becomes a table if the name ends in .csv, "
                "anything else JSON.",
            },
            "media_type": {"type": "string", "maxLength": 120},
        },
    },
    output={
        "type": "object",
        "required": ["name", "path", "sha256", "size", "file"],
        "properties": {
            "name": {"type": "string"},
            "path": {"type": "string", "description": "Inside the run's output folder."},
            "sha256": {"type": "string"},
            "size": {"type": "integer"},
            "file": {
                "type": "object",
                "description": "The file as a value: other tools read it, the run page offers it.",
                "properties": {
                    "id": {"type": "string"},
                    "name": {"type": "string"},
                    "sha256": {"type": "string"},
                    "media_type": {"type": "string"},
                    "size": {"type": "integer"},
                },
            },
        },
    },
    effect=EffectClass.IDEMPOTENT,
    actions=("write",),
    sinks=("name",),
    open_world=False,
    timeout_seconds=30.0,
    reversible=True,
)


def run(call: ToolRun) -> dict[str, Any]:
    """Write the file and keep it as a stored file of the workspace.

    Raises StepError (permanent) for a bad name or a name that is taken, DefiniteFailure when the disk says
    no: the file appears whole or not at all.
    """
    parts = parts_of(call.arguments["name"])
    data = content_of(call.arguments["content"], parts[-1])
    if len(data) > MAX_BYTES:
        raise StepError(
            f'"{parts[-1]}" would have {len(data) / 1e6:.1f} MB; at most {MAX_BYTES // 1024**2} are allowed.',
            permanent=True,
            code="too_large",
        )
    root = config().folder("files-out") / str(call.run_id)
    path = "/".join(parts)
    try:
        root.mkdir(exist_ok=True)
        _write(os.open(root, _DIRECTORY), parts, data, path)
        workspace = Workspace.objects.get(id=call.workspace_id)
        stored = services.keep_file(workspace, parts[-1], data, call.arguments.get("media_type"))
    except OSError as exc:
        raise DefiniteFailure(
            f'"{path}" could not be written ({exc.strerror}).',
            code="unwritable",
            next="Make the data folder writable or free some space.",
        ) from exc
    except Workspace.DoesNotExist as exc:
        raise StepError("The workspace of this run is gone.", permanent=True) from exc
    except MirrorNeuronError as exc:
        if isinstance(exc, StepError):
            raise
        raise DefiniteFailure(exc.message, code=exc.code, next=exc.next) from exc
    return {
        "name": parts[-1],
        "path": path,
        "sha256": sha256(data).hexdigest(),
        "size": len(data),
        "file": stored.as_value(),
    }


def parts_of(name: str) -> list[str]:
    """The folders and the file name of a relative path.

    Raises StepError (permanent) that says what is wrong: outside the folder, hidden, control characters,
    characters other systems refuse, too long, too deep.
    """
    name = unicodedata.normalize("NFC", name)
    parts = name.split("/")
    problem = ""
    if name.startswith("/") or (len(name) > 1 and name[1] == ":"):
        problem = "is an absolute path; give a name inside the run's folder"
    elif any(part in {"..", "."} for part in parts):
        problem = "leads out of the run's folder"
    elif any(not part.strip() for part in parts):
        problem = "has an empty part"
    elif any(unicodedata.category(c) in {"Cc", "Cs", "Cf", "Zl", "Zp"} or c in '\\:*?"<>|' for c in name):
        problem = "holds a character that file names cannot have"
    elif any(part.startswith(".") or part != part.strip() or part.endswith(".") for part in parts):
        problem = "has a part that begins with a dot, or ends with a dot or a space"
    elif len(parts) > MAX_PARTS or any(len(part.encode()) > MAX_PART_BYTES for part in parts):
        problem = f"is too long: at most {MAX_PARTS} parts of {MAX_PART_BYTES} bytes"
    if problem:
        raise StepError(
            f"The file name {name[:80]!r} {problem}.",
            permanent=True,
            code="bad_file_name",
            next="Choose another.",
        )
    return parts


def content_of(content: Any, name: str) -> bytes:
    """The bytes to write: text as it is, rows as CSV for a .csv name, everything else as JSON."""
    if isinstance(content, str):
        return content.encode("utf-8", "replace")
    is_rows = isinstance(content, list) and content and all(isinstance(row, dict) for row in content)
    if name.lower().endswith(".csv") and is_rows:
        from apps.agents.documents.tables import to_csv

        return to_csv(content).encode("utf-8", "replace")
    return (json.dumps(content, ensure_ascii=False, indent=2) + "\n").encode("utf-8", "replace")


def _write(root: int, parts: list[str], data: bytes, path: str) -> None:
    """Walk down from the root's descriptor and write the last part. Closes every descriptor."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(_closing(root))
        for part in parts[:-1]:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, dir_fd=folder)
            try:
                folder = stack.enter_context(_closing(os.open(part, _DIRECTORY, dir_fd=folder)))
            except NotADirectoryError as exc:
                raise _taken(path) from exc
        name = parts[-1]
        there = _read_if_there(name, folder, len(data), path)
        if there == data:
            return
        if there is not None:
            raise _taken(path)
        partial = f".{sha256(name.encode()).hexdigest()[:16]}.{os.getpid()}-{threading.get_ident()}.part"
        descriptor = os.open(
            partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600, dir_fd=folder
        )
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, name, src_dir_fd=folder, dst_dir_fd=folder)
        os.fsync(folder)


def _read_if_there(name: str, folder: int, expected: int, path: str) -> bytes | None:
    """What a regular file of this name holds (enough to compare); None when there is none."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise _taken(path) from exc
    try:
        with os.fdopen(descriptor, "rb") as file:
            return file.read(expected + 1)
    except IsADirectoryError as exc:
        raise _taken(path) from exc


def _taken(path: str) -> StepError:
    return StepError(
        f'"{path}" is already there with other content.',
        permanent=True,
        code="file_exists",
        next="Choose another name, such as one with the round or the item in it.",
    )


@contextlib.contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def describe(arguments: Mapping[str, Any]) -> str:
    parts = parts_of(arguments["name"])
    size = len(content_of(arguments["content"], parts[-1]))
    return f'The file "{"/".join(parts)}" ({size:,} bytes) will be written to the run\'s output folder.'


def simulate(call: ToolRun) -> dict[str, Any]:
    parts = parts_of(call.arguments["name"])
    data = content_of(call.arguments["content"], parts[-1])
    digest = sha256(data).hexdigest()
    file = {"id": "", "name": parts[-1], "sha256": digest, "media_type": "", "size": len(data)}
    return {"name": parts[-1], "path": "/".join(parts), "sha256": digest, "size": len(data), "file": file}


WRITE_FILE = Tool(SPEC, work=run, describe_source=describe, simulate_source=simulate)
