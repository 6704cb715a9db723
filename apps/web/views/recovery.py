"""Retry, skip and fork: GET says what it would do, POST does it.

The pages work as plain links and forms; a step's panel shows the same form in place.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from apps.blueprints import selectors as blueprints
from apps.blueprints.core.kinds import ports
from apps.runs import forks, recovery, selectors
from apps.runs.models import Run
from apps.web.core import recovery as words
from apps.web.core.words import humanise
from apps.web.run_page import RunPage
from apps.web.views.doors import in_my_workspaces, page, principal_of
from mirrorneuron.base.errors import Conflict, InvalidInput, MirrorNeuronError, NotFound, TooLarge

VERBS = {"retry": "Try again", "skip": "Skip with a value", "fork": "Start the new run"}
HEADINGS = {
    ("retry", ""): "Try “{}” again?",
    ("skip", ""): "Skip “{}” with a value?",
    ("fork", "redo"): "Do “{}” again in a new run?",
    ("fork", "edit"): "Give “{}” another output in a new run?",
    ("fork", "go_on"): "Take this run up again in a new one?",
}
MODES = {"redo": "Do it again", "edit": "Give it another output"}


@dataclass
class Asked:
    """What a person asks for, from an address or a form."""

    verb: str
    step: str = ""
    mode: str = ""
    version: int | None = None
    value: str | None = None
    """As written; None when nothing was written yet."""
    port: str = ""
    abandon: bool = False
    reason: str = ""
    key: str = ""
    problem: str = ""
    fields: dict[str, str] = field(default_factory=dict)


@require_http_methods(["GET", "HEAD", "POST"])
def recover(request: HttpRequest, run_id: UUID, verb: str) -> HttpResponse:
    """The form with the consequences, or the act."""
    run = in_my_workspaces(request, lambda principal: selectors.run_for(principal, run_id))
    asked = _asked(request, verb)
    if request.method != "POST":
        return _form(request, run, asked)
    try:
        said = _act(request, run, asked, preview=False)
    except (InvalidInput, TooLarge) as wrong:
        asked.problem, asked.fields = str(wrong), wrong.fields
        return _form(request, run, asked, status=wrong.status)
    if verb == "fork":
        messages.success(request, "This is the new run. What it took over is marked as kept.")
        return redirect("web:runs-detail", said["fork"])
    done = (
        "You had it tried again." if verb == "retry" else "You skipped it. The run goes on with your value."
    )
    messages.success(request, done)
    return redirect("web:runs-detail", run.id)


def _asked(request: HttpRequest, verb: str) -> Asked:
    given = request.POST if request.method == "POST" else request.GET
    step, mode = given.get("step", "").strip(), given.get("mode", "")
    if verb == "fork":
        mode = mode if step and mode in MODES else "redo" if step else "go_on"
    elif not step:
        raise NotFound("Which step is meant?", next="Choose it on the run's page.")
    return Asked(
        verb=verb,
        step=step,
        mode=mode if verb == "fork" else "",
        version=_number(given.get("version", "")),
        value=given.get("value"),
        port=given.get("port", "").strip(),
        abandon=given.get("abandon") == "yes",
        reason=given.get("reason", "").strip(),
        key=given.get("key", "").strip()[:64],
    )


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) < 10 else None


def _act(request: HttpRequest, run: Run, asked: Asked, *, preview: bool) -> dict[str, Any]:
    principal = principal_of(request)
    match asked.verb:
        case "retry":
            return recovery.retry_step(principal, run.id, asked.step, reason=asked.reason, preview=preview)
        case "skip":
            return recovery.skip_step(
                principal, run.id, asked.step, value=_value(asked.value), port=asked.port,
                abandon=asked.abandon, reason=asked.reason, preview=preview,
            )  # fmt: skip
    is_edit = asked.mode == "edit"
    value = _output(run, asked.step) if is_edit and asked.value is None else _value(asked.value)
    return forks.fork_run(
        principal, run.id,
        from_step=asked.step if asked.mode == "redo" else "",
        edit={asked.step: value} if is_edit else {},
        version=asked.version, reason=asked.reason, preview=preview,
        idempotency_key=f"page:{asked.key}" if asked.key else None,
    )  # fmt: skip


def _value(text: str | None) -> Any:
    """A value as a person writes it: JSON, or plain text that does not look like JSON."""
    text = (text or "").strip()
    if not text:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as exc:
        if text[0] in '{["':
            why = "it is nested too deep" if isinstance(exc, RecursionError) else exc
            raise InvalidInput(
                f"The value is not JSON: {why}.", fields={"value": "Correct it, or write plain text."}
            ) from exc
        return text


def _output(run: Run, path: str) -> Any:
    return selectors.step_for(run, path).output


def _form(request: HttpRequest, run: Run, asked: Asked, status: int = 200) -> HttpResponse:
    shown = RunPage(principal_of(request), run, asked.step)
    refused: MirrorNeuronError | None = None
    told: dict[str, Any] | None = None
    preview = Asked(**{**vars(asked), "value": None} if asked.verb == "skip" else vars(asked))
    try:
        told = _act(request, run, preview, preview=True)
    except (InvalidInput, TooLarge) as wrong:
        asked.problem = asked.problem or str(wrong)
    except (Conflict, NotFound) as exc:
        refused = exc
    in_place = bool(request.headers.get("HX-Request")) and request.method != "POST"
    context = {
        "run": run,
        "asked": asked,
        "heading": HEADINGS[asked.verb, asked.mode].format(shown.title_of(asked.step)),
        "button": VERBS[asked.verb],
        "in_place": in_place,
        "is_main": not (in_place and (shown.questions or shown.doubts)),
        "refused": refused,
        "lines": words.consequences(told, shown.title_of) if told else [],
        "has_doubt": bool(told and told.get("effects_abandoned")),
        "action": reverse("web:runs-recover", kwargs={"run_id": run.id, "verb": asked.verb}),
        "back": f"{reverse('web:runs-detail', args=[run.id])}"
        + (f"?step={asked.step}" if asked.step else ""),
        "key": asked.key or uuid4().hex,
        "wants_value": asked.mode == "edit" or (asked.verb == "skip" and not words.takes_back(asked.step)),
        "written": _written(run, asked),
        "ways": _ways(shown, asked),
        "modes": list(MODES.items()) if asked.mode in MODES else [],
        "versions": _versions(request, run) if asked.verb == "fork" else [],
    }
    return page(request, "runs/_recover.html" if in_place else "runs/recover.html", context, status=status)


def _written(run: Run, asked: Asked) -> str:
    """What stands in the value's field at first."""
    if asked.value is not None:
        return asked.value
    if asked.mode != "edit":
        return ""
    output = _output(run, asked.step)
    return "" if output is None else json.dumps(output, indent=2, ensure_ascii=False)


def _ways(shown: RunPage, asked: Asked) -> list[tuple[str, str]]:
    """Ways out of the step to choose from; empty when there is only one."""
    chooses = asked.verb == "skip" and not words.takes_back(asked.step)
    node = shown.document.node(words.node_of(asked.step)) if chooses else None
    found = [port for port in ports(node) if port != "failed"] if node is not None else []
    return [(port, humanise(port)) for port in found] if len(found) > 1 else []


def _versions(request: HttpRequest, run: Run) -> list[int]:
    """Other published versions to go on with."""
    found = blueprints.versions_for(principal_of(request), run.blueprint_name)
    return [v.number for v in found if v.number is not None and v.id != run.version_id]
