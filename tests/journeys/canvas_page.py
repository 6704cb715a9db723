"""The canvas on a page of its own, without a server: for budgets, and where a server would be in the way.

Every request is answered here, under the policy of the real pages. The draft behind it is a view model in
memory that takes the operations the tests send, as far as they can be seen.
"""

from __future__ import annotations

import json
import mimetypes
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Page, Route

from apps.web.middleware import POLICY
from mirrorneuron import assets

ORIGIN = "http://canvas.test"
STATIC = Path(__file__).resolve().parent.parent.parent / "static"
STYLES = ("tokens", "base", "shell", "components", "graph", "pick", "pages")


def node(path: str, x: float, y: float, **more: Any) -> dict[str, Any]:
    scope, _, name = path.rpartition("/")
    return {
        "path": path,
        "id": name,
        "scope": scope,
        "kind": "tool",
        "title": name.replace("_", " ").capitalize(),
        "subtitle": "tool · send_email",
        "boundary": "deterministic",
        "boundary_words": "touches nothing outside",
        "x": x,
        "y": y,
        "w": 188,
        "h": 64,
        "container": False,
        "collapsed": False,
        "children": 0,
        "ports": {
            "in": True,
            "out": [{"name": "done", "label": "done"}, {"name": "failed", "label": "failed"}],
        },
        "problems": {"errors": 0, "warnings": 0, "first": ""},
        **more,
    }


def edge(
    view: Mapping[str, Any], source: str, target: str, port: str = "done", **more: Any
) -> dict[str, Any]:
    a, b = view["nodes"][source], view["nodes"][target]
    start = [a["x"] + a["w"], a["y"] + a["h"] / 2]
    return {
        "id": f"{a['scope']}|{a['id']}.{port}|{b['id']}|0",
        "scope": a["scope"],
        "port": port,
        "when": "",
        "max_rounds": None,
        "written": {"from": a["id"], "to": b["id"]},
        "at": 0,
        "from": source,
        "to": target,
        "label": "",
        "back": False,
        "closes": False,
        "points": [start, [b["x"], b["y"] + b["h"] / 2]],
        "label_at": [start[0] + 7, start[1] - 5],
        **more,
    }


def view_of(
    nodes: list[dict[str, Any]], edges: Sequence[tuple[str, str]] = (), **more: Any
) -> dict[str, Any]:
    view: dict[str, Any] = {
        "version": 1,
        "mode": "edit",
        "nodes": {n["path"]: n for n in nodes},
        "edges": {},
        "groups": {},
        "notes": {},
        "x": 0,
        "y": 0,
        "width": 0,
        "height": 0,
        **more,
    }
    for source, target in edges:
        made = edge(view, source, target)
        view["edges"][made["id"]] = made
    view["width"] = max(n["x"] + n["w"] for n in nodes)
    view["height"] = max(n["y"] + n["h"] for n in nodes)
    return view


def large_view(columns: int = 25, rows: int = 12, edges: int = 400) -> dict[str, Any]:
    """300 nodes and 400 edges in a grid, each node joined to one or two of the next column."""
    names = [[f"step_{c}_{r}" for r in range(rows)] for c in range(columns)]
    nodes = [node(names[c][r], c * 280, r * 96) for c in range(columns) for r in range(rows)]
    ends = [
        (names[c][r], names[c + 1][(r + 3 * n) % rows])
        for n in (0, 1)
        for c in range(columns - 1)
        for r in range(rows)
    ]
    return view_of(nodes, ends[:edges])


class CanvasPage:
    """One page with one <mn-graph>. `sent` holds every batch of operations; `offline` cuts the server off."""

    def __init__(self, page: Page, view: dict[str, Any], mode: str = "edit") -> None:
        self.page, self.view, self.mode = page, view, mode
        self.sent: list[dict[str, Any]] = []
        self.offline = False
        self.hold = False
        """Whether only changes cannot be sent."""
        self.trouble: dict[str, Any] | None = None
        """What the server answers with 503 instead of storing."""
        self.refuse: dict[str, Any] | None = None
        page.route("**/*", self._answer)

    def open(self) -> CanvasPage:
        self.page.goto(f"{ORIGIN}/")
        self.graph.wait_for()
        self.page.wait_for_selector("mn-graph[data-mounted][data-idle=true]")
        return self

    @property
    def graph(self) -> Any:
        return self.page.locator("mn-graph")

    def step(self, path: str) -> Any:
        return self.page.get_by_test_id(f"node-{path}")

    def operations(self) -> list[dict[str, Any]]:
        return [operation for batch in self.sent for operation in batch["ops"]]

    def wait_idle(self) -> None:
        self.page.wait_for_selector("mn-graph[data-idle=true]")

    def _answer(self, route: Route) -> None:
        address = urlsplit(route.request.url)
        if address.path.startswith("/static/"):
            relative = address.path.removeprefix("/static/")
            file = STATIC / relative if relative.startswith("dist/") else STATIC / "src" / relative
            kind = mimetypes.guess_type(file.name)[0] or "text/plain"
            route.fulfill(body=file.read_bytes(), content_type=kind)
        elif address.path.startswith("/api/"):
            self._api(route, address.path.rpartition("/")[2], parse_qs(address.query))
        elif address.path == "/full.css":
            route.fulfill(body="html, body, main, mn-graph { height: 100% }", content_type="text/css")
        elif address.path == "/":
            route.fulfill(
                body=self._html(), content_type="text/html", headers={"Content-Security-Policy": POLICY}
            )
        else:
            route.fulfill(status=404, body="")

    def _html(self) -> str:
        files = assets.bundle_files("graph")
        styles = "".join(f'<link rel="stylesheet" href="/static/css/{name}.css">' for name in STYLES)
        data = json.dumps(self.view).replace("<", "\\u003c")
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Canvas</title>'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<link rel="icon" href="data:,">{styles}'
            f'<link rel="stylesheet" href="/static/dist/{files["css"]}">'
            f'<script type="module" src="/static/dist/{files["js"]}"></script>'
            '<link rel="stylesheet" href="/full.css"></head><body><main>'
            f'<mn-graph id="graph" mode="{escape(self.mode)}" data-blueprint="b" data-view="view"></mn-graph>'
            "</main>"
            f'<script type="application/json" id="view">{data}</script></body></html>'
        )

    def _api(self, route: Route, what: str, query: Mapping[str, list[str]]) -> None:
        if self.offline or (self.hold and what == "ops"):
            route.abort()
            return
        if what == "ops":
            if self.trouble is not None:
                route.fulfill(status=503, json=self.trouble)
                return
            batch = json.loads(route.request.post_data or "{}")
            self.sent.append({**batch, "if_match": route.request.headers.get("if-match")})
            if self.refuse is not None:
                route.fulfill(status=409, json=self.refuse)
                self.refuse = None
                return
            route.fulfill(json=self._apply(batch["ops"]))
        elif what == "connect":
            source = query["from"][0].rpartition(".")[0] or query["from"][0]
            route.fulfill(
                json={
                    "targets": [self._target(source, path) for path in self.view["nodes"] if path != source]
                }
            )
        elif what == "palette":
            words = query.get("q", [""])[0].lower()
            entries = [
                {
                    "kind": kind,
                    "title": title,
                    "description": "",
                    "group": "Steps",
                    "template": {"kind": kind, "title": title},
                }
                for kind, title in (("approval", "Ask a person"), ("agent", "Ask a model"), ("timer", "Wait"))
            ]
            route.fulfill(json=[e for e in entries if words in e["title"].lower()])
        elif what == "fragment":
            route.fulfill(json={"text": "nodes: [" + ", ".join(query["nodes"]) + "]"})
        elif what == "view":
            route.fulfill(json=self.view)
        else:
            route.fulfill(status=409, json={"code": "nothing_to_undo", "detail": "There is nothing to undo."})

    def _target(self, source: str, path: str) -> dict[str, Any]:
        allowed = not path.startswith("closed")
        return {
            "node": path,
            "title": self.view["nodes"][path]["title"],
            "allowed": allowed,
            "reason": "" if allowed else "Nothing may lead to a closed step.",
            "edge": {"from": source, "to": path} if allowed else None,
        }

    def _apply(self, operations: list[dict[str, Any]]) -> dict[str, Any]:
        nodes: dict[str, Any] = {}
        edges: dict[str, Any] = {}
        view = self.view
        for operation in operations:
            if operation["kind"] == "move_nodes":
                for path, at in operation["positions"].items():
                    nodes[path] = view["nodes"][path] = {**view["nodes"][path], **at}
                edges |= {
                    e["id"]: edge(view, e["from"], e["to"], e["port"])
                    for e in view["edges"].values()
                    if {e["from"], e["to"]} & operation["positions"].keys()
                }
            elif operation["kind"] == "remove_node":
                nodes[operation["node"]] = None
                gone = [e for e in view["edges"].values() if operation["node"] in (e["from"], e["to"])]
                edges |= {e["id"]: None for e in gone}
            elif operation["kind"] == "add_node":
                fields = operation["node"]
                at = operation.get("position") or {"x": 0, "y": 400}
                made = node(fields["id"], at["x"], at["y"], kind=fields["kind"], title=fields["title"])
                nodes[made["path"]] = view["nodes"][made["path"]] = made
                if "edge" in operation:
                    line = edge(view, operation["edge"]["from"].partition(".")[0], made["path"])
                    edges[line["id"]] = line
            elif operation["kind"] == "add_edge":
                line = edge(view, operation["edge"]["from"].partition(".")[0], operation["edge"]["to"])
                edges[line["id"]] = line
            elif operation["kind"] == "remove_edge":
                wanted = operation["edge"]
                edges |= {e["id"]: None for e in view["edges"].values() if e["written"] == wanted}
        patch = {
            "from_version": view["version"],
            "to_version": view["version"] + 1,
            "nodes": nodes,
            "edges": edges,
            "groups": {},
            "notes": {},
        }
        self.view = {
            **view,
            "version": view["version"] + 1,
            "nodes": {k: v for k, v in {**view["nodes"], **nodes}.items() if v is not None},
            "edges": {k: v for k, v in {**view["edges"], **edges}.items() if v is not None},
        }
        return {"version": self.view["version"], "ops": [], "patch": patch, "problems": []}
