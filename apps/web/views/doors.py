"""What every view needs: the principal, fragments or pages, paging, and errors as pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from apps.workspaces import access, selectors
from apps.workspaces.access import Principal
from mirrorneuron.base.errors import MirrorNeuronError, NotFound
from mirrorneuron.base.ids import as_uuid

Found = TypeVar("Found")
PAGE_SIZE = 30


def principal_of(request: HttpRequest) -> Principal:
    """The member who asks. `CurrentWorkspace` has sent everybody else away."""
    found: Principal = request.principal  # type: ignore[attr-defined]
    return found


def in_my_workspaces(request: HttpRequest, look: Callable[[Principal], Found]) -> Found:
    """Look something up by its id in the current workspace, then in the member's others.

    A link to an object chooses the workspace by itself; when another one has it, that becomes the current.
    Raises NotFound when none has it.
    """
    principal = principal_of(request)
    try:
        return look(principal)
    except NotFound:
        for workspace in selectors.workspaces_for(principal.user):
            if workspace.id == principal.workspace.id:
                continue
            other = access.principal_for(principal.user, workspace, "web")
            try:
                found = look(other)
            except NotFound:
                continue
            request.principal = other  # type: ignore[attr-defined]
            request.session["workspace"] = str(workspace.id)
            return found
        raise


def page(request: HttpRequest, template: str, context: dict[str, Any], *, status: int = 200) -> HttpResponse:
    """Render a page that is one person's: never kept by a browser or a proxy."""
    response = render(request, template, context, status=status)
    response.headers["Cache-Control"] = "private, no-store"
    response.headers["Vary"] = "Cookie, HX-Request"
    return response


def error_page(request: HttpRequest, error: MirrorNeuronError) -> HttpResponse:
    """An error as a person can use it: what was found, what to do next."""
    titles = {404: "Not here", 403: "Not allowed", 409: "It has moved on", 422: "That does not fit"}
    context: dict[str, Any] = {"error": error, "heading": titles.get(error.status, "That did not work")}
    section, _, rest = request.path.strip("/").partition("/")
    if request.method == "POST" and rest and error.status in (403, 409, 422):
        # A button of a thing's own page was pressed: `/runs/<id>/cancel` belongs to `/runs/<id>`.
        context["back"] = "/settings" if section == "settings" else f"/{section}/{rest.partition('/')[0]}"
    return page(request, "errors/error.html", context, status=error.status)


def slice_by_id(queryset: Any, cursor: str, *, size: int = PAGE_SIZE) -> tuple[list[Any], str]:
    """One page of rows with time-ordered ids, newest first, and the cursor of the next page or "".

    cursor: id of the last row seen; a broken one starts from the top.
    """
    after = as_uuid(cursor)
    if after is not None:
        queryset = queryset.filter(id__lt=after)
    rows = list(queryset.order_by("-id")[: size + 1])
    return rows[:size], str(rows[size - 1].id) if len(rows) > size else ""
