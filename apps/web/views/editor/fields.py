"""The forms of the editor: drawn for what is selected, and one operation for each changed field.

A changed field is answered with what stands around the fields, out of band, and never with the field itself:
somebody is typing in it. Only a change that gives another form, such as another tool, draws the form anew.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse, HttpResponseNotModified, JsonResponse, QueryDict
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import quote_etag
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from apps.web.core.inspector import edits
from apps.web.core.inspector.forms import PARTS, Form, Subject, form_of
from apps.web.core.inspector.inputs import MISSING, Input, Unreadable, Value, canonical, read
from apps.web.core.inspector.names import names_at
from apps.web.editing import Applied, Changed, Opened, apply_operation, open_blueprint
from apps.web.editor_forms import DrawnForm, draw
from apps.web.views.doors import page, principal_of
from apps.workspaces.core.roles import Permission
from mirrorneuron.base.errors import NotFound

_TOKEN = re.compile(rb'<input type="hidden" name="csrfmiddlewaretoken"[^>]*>')


@require_safe
def inspector(request: HttpRequest, name: str) -> HttpResponse:
    """What is selected, as a form: a node, several, an edge, or nothing, which means the blueprint itself."""
    opened = _open(request, name)
    answer = page(request, "editor/_inspector.html", inspector_of(request, opened))
    if request.htmx:  # type: ignore[attr-defined]
        # A token is written differently every time, and a script sends the page's own.
        answer.content = _TOKEN.sub(b"", answer.content)
    answer.headers["ETag"] = quote_etag(hashlib.blake2s(answer.content, digest_size=16).hexdigest())
    if request.headers.get("If-None-Match") == answer.headers["ETag"]:
        return HttpResponseNotModified(
            headers={"ETag": answer.headers["ETag"], "Cache-Control": "private, no-store"}
        )
    return answer


@require_http_methods(["PATCH", "POST"])
def field(request: HttpRequest, name: str) -> HttpResponse:
    """One changed field becomes one operation."""
    opened = _open_to_edit(request, name)
    sent = _sent(request)
    form, one = _found(opened, _subject(request), sent.get("field", ""))
    try:
        value = read(one, sent.getlist("value"))
    except Unreadable as wrong:
        return _slots(request, opened, form, one, said=str(wrong))
    before = sent.get("seen")
    if before is not None and before != one.seen and not _is(value, one):
        return _slots(request, opened, form, one, conflict=Changed(one.value, value))
    if one.aspect == "id":
        return _rename(request, opened, form, one, value)
    return _change(request, opened, form, one, value, lambda: edits.changed(opened.data, form, one, value))


@require_POST
def entry(request: HttpRequest, name: str) -> HttpResponse:
    """Add, remove, move or rename an entry of a list, a mapping or a schema; the form is drawn anew."""
    opened = _open_to_edit(request, name)
    sent = _sent(request)
    form, one = _found(opened, _subject(request), sent.get("field", ""))
    fresh: tuple[str | int, ...] = ()
    try:
        match sent.get("do"):
            case "add":
                after, fresh = edits.added(opened.data, form, one, sent.get("key", ""))
            case "remove":
                after = edits.removed(opened.data, form, one)
            case "up" | "down" as way:
                after = edits.moved(opened.data, form, one, edits.MOVES[way])
            case "rename":
                after = edits.entry_renamed(opened.data, form, one, sent.get("key", ""))
            case other:
                raise NotFound(f"There is no such button: {other!r}.", next="Load the page again.")
    except Unreadable as wrong:
        return _slots(request, opened, form, one, said=str(wrong))
    made = _apply(opened, after)
    if isinstance(made, Changed):
        return _slots(request, opened, form, one, conflict=made)
    return _whole(request, opened, form.subject, made, fresh)


@require_safe
def names(request: HttpRequest, name: str) -> HttpResponse:
    """What the expressions of a step may name: for completion."""
    opened = _open(request, name)
    found = names_at(opened.data, opened.tools, request.GET.get("node", ""))
    return JsonResponse(
        {"names": [one.as_json() for one in found]}, headers={"Cache-Control": "private, no-store"}
    )


def inspector_of(request: HttpRequest, opened: Opened) -> dict[str, Any]:
    """The context of the inspector for the selection a request names."""
    nodes = request.GET.getlist("node")
    context: dict[str, Any] = {"opened": opened, "urls": _urls(opened), "form": None}
    if len(nodes) > 1:
        return context | {"several": nodes}
    if nodes:
        subject = Subject("node", nodes[0])
    elif request.GET.get("edge"):
        subject = Subject("edge", request.GET["edge"])
    else:
        part = request.GET.get("part", "settings")
        subject = Subject("part", part if part in PARTS else "settings")
    return context | {"form": draw(opened, subject, bare=_bare(request)), "gone": subject.key}


def part_context(opened: Opened, *parts: str) -> dict[str, Any]:
    """The forms of some parts of the blueprint, for a tab."""
    forms = {part: draw(opened, Subject("part", part), bare=True) for part in parts}
    return {"forms": forms, "urls": _urls(opened)}


# --- answers ------------------------------------------------------------------------------------------------


def _change(
    request: HttpRequest, opened: Opened, form: Form, one: Input, value: Value, make: Callable[[], Any]
) -> HttpResponse:
    try:
        after = make()
    except Unreadable as wrong:
        return _slots(request, opened, form, one, said=str(wrong))
    made = _apply(opened, after)
    if isinstance(made, Changed):
        return _slots(request, opened, form, one, conflict=Changed(made.theirs, value, made.message))
    if one.reshapes:
        return _whole(request, opened, form.subject, made)
    return _slots(request, opened, form, one, made=made)


def _rename(request: HttpRequest, opened: Opened, form: Form, one: Input, value: Value) -> HttpResponse:
    to = str(value) if value is not MISSING else ""
    made = apply_operation(opened, {"kind": "rename", "node": form.subject.key, "to": to})
    if isinstance(made, Changed):
        return _slots(request, opened, form, one, said=made.message)
    scope = form.subject.key.rpartition("/")[0]
    return _whole(request, opened, Subject("node", f"{scope}/{to}" if scope else to), made)


def _apply(opened: Opened, after: Any) -> Applied | Changed | None:
    made = edits.operation(opened.data, after)
    return apply_operation(opened, made) if made is not None else None


def _slots(
    request: HttpRequest,
    opened: Opened,
    form: Form,
    one: Input,
    *,
    said: str = "",
    conflict: Changed | None = None,
    made: Applied | None = None,
) -> HttpResponse:
    """What stands around the fields, each where it belongs; the fields themselves stay."""
    if not request.htmx:  # type: ignore[attr-defined]
        return _back(request, opened, form.subject)
    drawn = draw(opened, form.subject, bare=_bare(request))
    if drawn is None:
        return _whole(request, opened, form.subject, made)
    context: dict[str, Any] = {
        "opened": opened,
        "form": drawn,
        "urls": _urls(opened),
        "changed": one.id,
        "said": said,
    }
    if conflict is not None:
        context |= _both(opened, form, one, conflict)
    response = page(request, "editor/_slots.html", context)
    return _announced(response, made)


def _both(opened: Opened, form: Form, one: Input, conflict: Changed) -> dict[str, Any]:
    mine = "" if conflict.mine is MISSING else canonical(conflict.mine)
    return {
        "conflict": conflict,
        "theirs": _shown(conflict.theirs),
        "mine": _shown(conflict.mine),
        "mine_json": mine,
        "one": one,
        "by": opened.last_changed_by(*_where(form, one)) or "Somebody",
    }


def _where(form: Form, one: Input) -> tuple[str, list[Any]]:
    """The node and the path by which the log of operations calls a field."""
    if form.subject.kind == "node":
        return form.subject.key, list(one.path)
    return "", [*form.base, *one.path] if form.subject.kind == "part" else list(one.path)


def _shown(value: Value) -> str:
    if value is MISSING or value is None or value == "":
        return "nothing"
    text = value if isinstance(value, str) else canonical(value)
    return text if len(text) <= 120 else text[:119] + "…"


def _whole(
    request: HttpRequest,
    opened: Opened,
    subject: Subject,
    made: Applied | None,
    fresh: tuple[str | int, ...] = (),
) -> HttpResponse:
    """The form drawn anew, where it stood."""
    if not request.htmx:  # type: ignore[attr-defined]
        return _back(request, opened, subject)
    drawn = draw(opened, subject, bare=_bare(request))
    context = {
        "opened": opened,
        "form": drawn,
        "urls": _urls(opened),
        "fresh": _focus(drawn, fresh),
        "gone": subject.key,
    }
    response = page(request, "editor/_form.html", context)
    response.headers["HX-Reswap"] = "outerHTML"
    response.headers["HX-Retarget"] = "closest .subject-form"
    return _announced(response, made)


def _focus(drawn: DrawnForm | None, fresh: tuple[str | int, ...]) -> str:
    """The first field of a new entry."""
    if drawn is None or not fresh:
        return ""
    inside = (d for d in drawn.all if d.one.path[: len(fresh)] == fresh and not d.one.is_container)
    return next((d.id for d in inside), "")


def _announced(response: HttpResponse, made: Applied | None) -> HttpResponse:
    if made is not None:
        response.headers["HX-Trigger"] = json.dumps(
            {"mn:applied": {"version": made.version, "patch": made.patch, "origin": "form"}},
            separators=(",", ":"),
        )
    return response


def _back(request: HttpRequest, opened: Opened, subject: Subject) -> HttpResponse:
    """Without scripts: the page again, with the same thing selected."""
    where = reverse("web:blueprints-edit", args=[opened.name])
    query: dict[str, str] = (
        {subject.kind: subject.key} if subject.kind != "part" else {"tab": request.GET.get("tab", "")}
    )
    return redirect(f"{where}?{urlencode(query)}")


# --- requests -----------------------------------------------------------------------------------------------


def _open(request: HttpRequest, name: str) -> Opened:
    return open_blueprint(principal_of(request), name, private=request.GET.get("private") == "1")


def _open_to_edit(request: HttpRequest, name: str) -> Opened:
    opened = _open(request, name)
    opened.principal.require(Permission.EDIT)
    if not opened.may_edit:
        raise NotFound(opened.why_read_only, next="Fork it to change it.")
    return opened


def _bare(request: HttpRequest) -> bool:
    return request.GET.get("bare") == "1"


def _sent(request: HttpRequest) -> QueryDict:
    """A form's fields; Django itself reads them of a POST only."""
    return request.POST if request.method == "POST" else QueryDict(request.body, encoding="utf-8")


def _subject(request: HttpRequest) -> Subject:
    if "node" in request.GET:
        return Subject("node", request.GET["node"])
    if "edge" in request.GET:
        return Subject("edge", request.GET["edge"])
    part = request.GET.get("part", "")
    if part not in PARTS:
        raise NotFound(f"A blueprint has no part {part!r}.", next="Load the page again.")
    return Subject("part", part)


def _found(opened: Opened, subject: Subject, name: str) -> tuple[Form, Input]:
    form = form_of(subject, opened.data, opened.tools)
    one = form.find(name) if form is not None else None
    if form is None or one is None:
        raise NotFound(
            "What you were changing is not there any more; somebody may have removed it.",
            next="Select it again.",
        )
    return form, one


def _is(value: Value, one: Input) -> bool:
    return (value is MISSING and one.value is MISSING) or (
        value is not MISSING and one.value is not MISSING and canonical(value) == canonical(one.value)
    )


def _urls(opened: Opened) -> dict[str, str]:
    return {
        "field": reverse("web:blueprints-edit-field", args=[opened.name]),
        "entry": reverse("web:blueprints-edit-entry", args=[opened.name]),
        "names": reverse("web:blueprints-edit-names", args=[opened.name]),
        "inspector": reverse("web:blueprints-edit-inspector", args=[opened.name]),
    }
