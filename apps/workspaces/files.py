"""Bytes of stored files, once each, under `MN_DATA/files/<first two>/<sha256>`.

A file is written beside its place, flushed to the disk and renamed: a name that exists always holds all its
bytes, whatever dies in between.
"""

from __future__ import annotations

import hashlib
import mimetypes
import os
import tempfile
import unicodedata
from pathlib import Path

from mirrorneuron.base.errors import Unavailable
from mirrorneuron.config import config

MAX_BYTES = 50 * 1024 * 1024
_TYPES = {
    ".md": "text/markdown",
    ".markdown": "text/markdown",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".csv": "text/csv",
    ".jsonl": "application/jsonl",
    ".eml": "message/rfc822",
    ".sqlite": "application/vnd.sqlite3",
    ".sqlite3": "application/vnd.sqlite3",
    ".db": "application/vnd.sqlite3",
}


def clean_name(name: str) -> str:
    """A name safe to show and to save under: no folders, no control characters, at most 255 bytes."""
    last = unicodedata.normalize("NFC", name).replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
    kept = "".join(c for c in last if unicodedata.category(c)[0] != "C").strip().lstrip(".").strip()
    if not kept:
        return "file"
    stem, dot, suffix = kept.rpartition(".")
    if not dot or len(suffix.encode()) > 20:
        stem, dot, suffix = kept, "", ""
    room = 255 - len((dot + suffix).encode())
    return stem.encode()[:room].decode(errors="ignore") + dot + suffix


def guess_media_type(name: str) -> str:
    """The media type by the name's ending; `application/octet-stream` when it says nothing."""
    known = _TYPES.get(Path(name).suffix.lower())
    return known or mimetypes.guess_type(name)[0] or "application/octet-stream"


def clean_media_type(given: str | None) -> str:
    """A media type as somebody gave it, when it can be one; otherwise empty."""
    given = (given or "").strip()
    return given if len(given) <= 120 and given.isascii() and given.isprintable() and "/" in given else ""


def keep(data: bytes) -> str:
    """Store the bytes and return their SHA-256 in hex; bytes already there are not written again.

    Raises Unavailable when the folder cannot be written.
    """
    sha256 = hashlib.sha256(data).hexdigest()
    place = path_of(sha256)
    try:
        if not place.exists():
            _write(place, data)
    except OSError as exc:
        raise Unavailable(
            f"The file could not be written under {place.parent} ({exc.strerror}).",
            code="files_unwritable",
            next="Make the data folder writable or free some space, then try again.",
        ) from exc
    return sha256


def path_of(sha256: str) -> Path:
    return config().folder("files") / sha256[:2] / sha256


def _write(place: Path, data: bytes) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=place.parent, prefix=".new-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(place)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    # The rename itself must survive a power cut too.
    folder = os.open(place.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
