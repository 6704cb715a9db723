"""The outline and the box of things to fix: the same draft, to read and to edit without the picture.

A page draws both once. After each change it says which version it shows (`after`) and is told the rows and
entries that look different since; a page that knows no version is told all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.template.loader import render_to_string
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from apps.blueprints import draft_texts
from apps.blueprints.core.editing.sketch import Sketch
from apps.blueprints.core.editing.view import View, view_of
from apps.blueprints.core.problems import Problem
from apps.blueprints.editing_selectors import ToFix, to_fix, to_fix_in
from apps.blueprints.ports import builtin_tools
from apps.web.comments import Comments, comments_on
from apps.web.core.outline import Line, Row, Tree, lines_of, rows_of, tree_of
from apps.web.core.places import tab_of
from apps.web.editing import Changed, Opened, apply_operations, open_blueprint
from apps.web.views.doors import principal_of
from apps.workspaces.core.roles import Permission
from mirrorneuron.base.errors import Conflict

MOST_BEHIND = 200
"""Versions; a page further behind is told everything, which costs less than reading what it has missed."""


@require_safe
def news(request: HttpRequest, name: str) -> HttpResponse:
    """What to change on a page that shows version `after`."""
    opened = _open(request, name)
    return _answer(_news(opened, request.GET.get("after", "")))


@require_POST
def fix(request: HttpRequest, name: str) -> HttpResponse:
    """Mend one problem as one step to undo. A script is answered with what to change on its page."""
    principal_of(request).require(Permission.EDIT)
    opened = _open(request, name)
    entry = next((e for e in _to_fix(opened) if e.key == request.POST.get("problem", "")), None)
    said, applied = "", None
    if entry is None or entry.fix is None:
        said = "That is mended already."
    else:
        made = apply_operations(opened, [dict(operation) for operation in entry.fix.operations])
        if isinstance(made, Changed):
            said = made.message
        else:
            said, applied = f"Mended: {entry.problem.message}", made
    if request.headers.get("Accept") != "application/json":
        if applied is None:
            raise Conflict(said, next="Look at the list again.")
        return redirect(_address(opened))
    patch = applied.patch if applied is not None else None
    return _answer({**_news(opened, request.POST.get("after", "")), "said": said, "patch": patch})


def _answer(news: Mapping[str, Any]) -> HttpResponse:
    return JsonResponse(news, headers={"Cache-Control": "private, no-store", "Vary": "Cookie"})


# --- what a page shows --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """One thing to fix, as far as it is shown: two of them are equal when they look alike."""

    key: str
    level: str
    code: str
    message: str
    advice: str
    node: str
    title: str
    tab: str
    """Where it is mended by hand when it belongs to no step; empty: in the YAML."""
    line: int | None
    mends: str
    """What the button says; empty when only a person can say what is meant."""


@dataclass(frozen=True)
class Lists:
    """Both lists of one version. Comments are of no version: they are looked up for each request."""

    view: View
    """In which nothing is collapsed."""
    lines: Mapping[str, Line]
    tree: Tree
    entries: Mapping[str, Entry]

    @property
    def errors(self) -> int:
        return sum(entry.level == "error" for entry in self.entries.values())


def lists_of(opened: Opened) -> dict[str, Any]:
    """For the page as a whole."""
    lists, comments = _lists(opened), _comments(opened)
    return {
        "rows": rows_of(opened.plan, lists.view, comments),
        "comments": comments,
        "entries": list(lists.entries.values()),
        "errors": lists.errors,
    }


def _comments(opened: Opened) -> Comments:
    return comments_on(opened.principal, opened.name, opened.draft) if opened.draft is not None else {}


def _lists(opened: Opened) -> Lists:
    if opened.draft is not None:
        return _lists_at(draft_texts.seen(opened.draft))
    return _made(opened.plan, opened.view, opened.problems, _to_fix(opened))


def _lists_at(found: draft_texts.Seen) -> Lists:
    """Worked out once for each version, however many pages ask."""
    return found.once("lists", lambda: _made(found.plan, found.view, found.problems, to_fix_in(found)))


def _made(plan: Sketch, view: View, problems: list[Problem], to_fix: list[ToFix]) -> Lists:
    if any(node["collapsed"] for node in view["nodes"].values()):
        # The outline holds what the picture hides.
        canvas = {k: v for k, v in plan.canvas.items() if k != "collapsed"}
        view = view_of({}, problems=problems, tools=builtin_tools(), drawn=replace(plan, canvas=canvas))
    rows = rows_of(plan, view)
    return Lists(view, lines_of(rows), tree_of(rows), {one.key: _entry(one) for one in to_fix})


def _to_fix(opened: Opened) -> list[ToFix]:
    if opened.draft is not None:
        return to_fix_in(draft_texts.seen(opened.draft))
    return to_fix(opened.data, opened.problems, opened.plan)


def _entry(one: ToFix) -> Entry:
    tab = "" if one.node else tab_of(one.problem.path)
    return Entry(
        key=one.key,
        level=one.problem.level,
        code=one.problem.code,
        message=one.problem.message,
        advice=one.problem.fix,
        node=one.node,
        title=one.title,
        tab=tab,
        line=one.problem.line if not one.node and not tab else None,
        mends=one.fix.words if one.fix is not None else "",
    )


# --- what has changed ---------------------------------------------------------------------------------------


def _news(opened: Opened, after: str) -> dict[str, Any]:
    """{version, rows: {name: html}, tree, commented: [name], comments, entries: {key: html}, list, head}.

    tree and list are null when they are as before. Rows with comments are always told, as a comment changes
    no version; `commented` names them, so that a page takes the others' signs away.
    """
    now, before, comments = _lists(opened), _before(opened, after), _comments(opened)
    lines = {
        k: v for k, v in now.lines.items() if k in comments or before is None or before.lines.get(k) != v
    }
    entries = {k: v for k, v in now.entries.items() if before is None or before.entries.get(k) != v}
    return {
        "version": opened.version,
        "rows": {
            called: _drawn(
                "_outline_rows", rows=[_commented(line.row, comments)], level=line.level, opened=opened
            )
            for called, line in lines.items()
        },
        "commented": [called for called in lines if called in comments],
        "comments": comments,
        "tree": now.tree if before is None or before.tree != now.tree else None,
        "entries": {key: _drawn("_problem", entry=entry, opened=opened) for key, entry in entries.items()},
        "list": list(now.entries) if before is None or list(before.entries) != list(now.entries) else None,
        "head": _drawn("_problems_head", entries=now.entries, errors=now.errors),
    }


def _before(opened: Opened, after: str) -> Lists | None:
    """The lists of a page that shows an earlier version; None when all of it is to be told."""
    if opened.draft is None or not after.isdecimal() or len(after) > 9:
        return None
    if not 0 <= opened.version - int(after) <= MOST_BEHIND:
        return None
    found = draft_texts.seen_at(opened.draft, int(after))
    return _lists_at(found) if found is not None else None


def _commented(row: Row, comments: Comments) -> Row:
    said = comments.get(row.called)
    return replace(row, comments=said["count"], comments_url=said["url"]) if said is not None else row


def _drawn(template: str, **context: Any) -> str:
    """Without a request: all it would bring is a token, which the page has."""
    return render_to_string(f"editor/{template}.html", context).strip()


def _open(request: HttpRequest, name: str) -> Opened:
    given = request.POST if request.method == "POST" else request.GET
    return open_blueprint(principal_of(request), name, private=given.get("private") == "1")


def _address(opened: Opened) -> str:
    here = reverse("web:blueprints-edit", args=[opened.name])
    return f"{here}?private=1" if opened.private else here
