"""Uploads for inputs, and what runs produced."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils.http import content_disposition_header
from ninja import File as Upload
from ninja import Router
from ninja.files import UploadedFile
from ninja.responses import Status

from apps.api.doors import principal, reads, writes
from apps.api.shapes import File
from apps.workspaces import selectors, services
from apps.workspaces.errors import FileTooLarge
from apps.workspaces.files import MAX_BYTES

router = Router(by_alias=True)


@router.post("", response=writes(File, 201), summary="Upload one file")
def upload(request: HttpRequest, file: UploadedFile = Upload(...)) -> Any:  # noqa: B008
    """`multipart/form-data` with one part `file`, up to 50 MB. The id is the value of a file input."""
    if (file.size or 0) > MAX_BYTES:
        raise FileTooLarge(
            f"{file.name!r} is too large; one file may have {MAX_BYTES // 1024**2} MB.",
            next="Split the file or leave it out.",
        )
    stored = services.store_file(principal(request), file.name or "file", file.read(), file.content_type)
    return Status(201, stored.as_value())


@router.get(
    "/{file_id}",
    response=reads(File),
    summary="Download, or describe",
    openapi_extra={"description": "The bytes; with `Accept: application/json` what the file is."},
)
def get_file(request: HttpRequest, file_id: str) -> Any:
    stored = selectors.file_for(principal(request), file_id)
    accepted = request.headers.get("Accept", "*/*")
    if accepted.startswith("application/json"):
        return stored.as_value()
    _, data = selectors.file_bytes(stored.workspace_id, stored.id)
    # Never shown in place: what somebody uploaded must not run as one of our pages.
    return HttpResponse(
        data,
        content_type="application/octet-stream",
        headers={
            "Content-Disposition": content_disposition_header(True, stored.name) or "attachment",
            "Content-Security-Policy": "default-src 'none'; sandbox",
            "X-Content-Type-Options": "nosniff",
            "ETag": f'"{stored.sha256}"',
        },
    )
