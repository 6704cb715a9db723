"""Template tags of the pages: icons, states, times, money and values."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Any
from urllib.parse import urlencode

from django import template
from django.templatetags.static import static
from django.urls import reverse
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from apps.blueprints.core.problems import Problem
from apps.web.core import places, words
from apps.web.core.icons import ICONS
from mirrorneuron.assets import bundle_files
from mirrorneuron.base import packed
from mirrorneuron.base.clock import now

register = template.Library()


@register.simple_tag
def icon(name: str) -> SafeString:
    """A 16-pixel drawing, hidden from screen readers: words stand beside it."""
    return format_html(
        '<svg class="icon" viewBox="0 0 16 16" width="16" height="16" aria-hidden="true">{}</svg>',
        mark_safe(ICONS[name]),  # noqa: S308 - constants above
    )


@register.simple_tag
def place_of(problem: Problem, name: str, private: bool = False) -> SafeString:
    """A link to the form where a problem of a draft is mended: `{% place_of problem blueprint.name %}`."""
    query, words_for = places.way_to(problem)
    return format_html(
        '<a class="small" href="{}{}">Open {}</a>',
        reverse("web:blueprints-edit", args=[name]),
        f"?{urlencode({**query, **({'private': '1'} if private else {})})}" if query or private else "",
        words_for,
    )


@register.simple_tag
def bundle(name: str) -> SafeString:
    """Style and script of a built bundle: `{% bundle "graph" %}`. Nothing where it is not built."""
    files = bundle_files(name)
    style = '<link rel="stylesheet" href="{}">' if "css" in files else ""
    script = '<script type="module" src="{}"></script>' if "js" in files else ""
    addresses = [static(f"dist/{files[part]}") for part in ("css", "js") if part in files]
    return format_html(style + script, *addresses) if addresses else mark_safe("")


@register.simple_tag
def bundle_file(name: str, part: str) -> str:
    """Address of a bundle's `js` or `css`, for loading it later. Empty where it is not built."""
    file = bundle_files(name).get(part)
    return static(f"dist/{file}") if file else ""


@register.simple_tag
def has_bundle(name: str) -> bool:
    """Whether a bundle is there, for saying in words that it is not."""
    return bool(bundle_files(name))


@register.simple_tag
def state(of: str, value: str, reason: str = "") -> SafeString:
    """A pill with shape and word: `{% state "run" run.status %}`."""
    seen = words.look(of, value, reason or "")
    return format_html(
        '<span class="pill tone-{}" data-state="{}">{}<span>{}</span></span>',
        seen.tone,
        value,
        icon(seen.icon),
        seen.word,
    )


def _moment(value: Any) -> datetime | None:
    if isinstance(value, str):
        value = parse_datetime(value)
    return value if isinstance(value, datetime) else None


@register.simple_tag
def when(value: Any, form: str = "full") -> SafeString | str:
    """A time in the reader's zone. form: `full` (21 Nov 2026, 10:15), `clock` (10:15:03), `ago`."""
    moment = _moment(value)
    if moment is None:
        return ""
    local = timezone.localtime(moment)
    full = f"{local.day} {local:%b %Y, %H:%M}"
    text = {
        "full": full,
        "clock": f"{local:%H:%M:%S}",
        "ago": words.since(moment, now()),
        "due": f"in {words.span((moment - now()).total_seconds())}" if moment > now() else "overdue",
    }[form]
    return format_html(
        '<time datetime="{}" title="{} {}"{}>{}</time>',
        moment.isoformat(),
        full,
        local.tzname() or "",
        format_html(' data-tick="{}"', form) if form in ("ago", "due") else "",
        text,
    )


@register.filter
def span(seconds: Any) -> str:
    return words.span(float(seconds)) if seconds is not None else ""


@register.simple_tag
def took(start: Any, end: Any = None) -> SafeString | str:
    """The time between two moments; ticks on in the browser while there is no end."""
    first, last = _moment(start), _moment(end)
    if first is None:
        return ""
    text = words.span(((last or now()) - first).total_seconds())
    if last:
        return text
    return format_html('<span data-tick="span" data-since="{}">{}</span>', first.isoformat(), text)


@register.filter
def money(microusd: Any) -> str:
    return words.usd(microusd)


@register.filter
def usd(text: Any) -> str:
    """A decimal string of dollars, as the API gives it, for a person."""
    if text in (None, ""):
        return "unknown"
    return words.usd(round(float(text) * 1_000_000))


@register.filter
def humanise(name: str) -> str:
    return words.humanise(str(name))


@register.filter
def kind_word(kind: str) -> str:
    return words.KIND_WORDS.get(kind, words.humanise(kind))


@register.filter
def pretty(value: Any) -> str:
    return _cut(json.dumps(value, indent=2, ensure_ascii=False, default=str), RAW)


@register.filter
def url_path(step_path: str) -> str:
    """A step path as it stands in URLs: `/` becomes `:` (SPEC section 3)."""
    return step_path.replace("/", ":")


@register.filter
def size(count: Any) -> str:
    """Bytes for a person."""
    number = float(count or 0)
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000 or unit == "GB":
            return f"{number:.0f} {unit}" if unit == "B" or number >= 100 else f"{number:.1f} {unit}"
        number /= 1000
    return ""


@register.simple_tag
def counted(count: int, one: str, many: str = "") -> str:
    return words.plural(count, one, many)


@register.simple_tag
def value(found: Any, fold: bool = True, run: Any = "") -> SafeString:
    """A JSON value for reading: names and values, tables, lists, paragraphs; bounded in depth and length.

    fold: long lists of objects hide behind their count, and long texts are cut; not where a person decides
    on what they see. run: its id, so that large values of which only the beginning is shown can be opened.
    """
    return _value(found, 0, replace(READING if fold else DECIDING, run=str(run or "")))


@register.simple_tag
def peek(found: Any) -> str:
    """The first words of a value, for the line that unfolds it."""
    if isinstance(found, dict):
        found = next((v for v in found.values() if isinstance(v, (str, bool)) and v != ""), "")
    if isinstance(found, bool):
        return "yes" if found else "no"
    text = " ".join(found.split()) if isinstance(found, str) else ""
    return text if len(text) <= PEEK else text[:PEEK].rsplit(" ", 1)[0] + " …"


PEEK = 140
RAW = 20_000
"""Characters of a value shown as JSON."""
MOST_COLUMNS = 8
SHORT = 60
FOLDED = 2
"""A list of more objects than this is folded away behind its count."""
FILE_KEYS = {"id", "name", "sha256", "media_type", "size"}
_HASH = re.compile("[0-9a-f]{64}")
REFERENCE_KEYS = {packed.KEY, "size", "type", "begins"}
_TURNING = re.compile("[\u202a-\u202e\u2066-\u2069]")
"""Characters that make text read in another order than it is written."""


@dataclass(frozen=True)
class _Extent:
    """How much of a value is shown; what is left out is said."""

    fold: bool
    most: int
    """Entries of a list or an object."""
    longest: int
    """Characters of a text."""
    deepest: int
    """Characters of what is nested too deep to be drawn."""
    run: str = ""
    """The run whose large values can be opened from here."""


READING = _Extent(fold=True, most=40, longest=6_000, deepest=400)
DECIDING = _Extent(fold=False, most=5_000, longest=1_000_000, deepest=100_000)
"""All that a tool takes: what is approved must have been in sight."""


def _cut(text: str, longest: int) -> str:
    shown = (
        text if len(text) <= longest else f"{text[:longest]} … and {len(text) - longest:,} more characters"
    )
    return _TURNING.sub(lambda m: f"[U+{ord(m[0]):04X}]", shown)


def _value(found: Any, depth: int, extent: _Extent) -> SafeString:
    if found is None:
        return mark_safe('<span class="nothing">nothing</span>')
    if isinstance(found, bool):
        return mark_safe("yes") if found else mark_safe("no")
    if isinstance(found, (int, float)):
        return format_html('<span class="number">{}</span>', found)
    if isinstance(found, str):
        text = _cut(found, extent.longest)
        if not text:
            return mark_safe('<span class="nothing">empty</span>')
        is_long = "\n" in text or len(text) > 90
        return format_html('<span class="{}">{}</span>', "prose" if is_long else "text", text)
    if depth >= 5:
        text = json.dumps(found, ensure_ascii=False, default=str)
        return format_html("<code>{}</code>", _cut(text, extent.deepest))
    if isinstance(found, dict):
        if set(found) == FILE_KEYS and isinstance(found["size"], int):
            # Nothing but a file looks like one: another field could hide behind its name.
            name, weight = _cut(str(found["name"]), 255), size(found["size"])
            return format_html('{} {} <span class="quiet">{}</span>', icon("file"), name, weight)
        if found.keys() == REFERENCE_KEYS:
            return _reference(found, extent)
        if not found:
            return mark_safe('<span class="nothing">empty</span>')
        rows = format_html_join(
            "",
            "<div><dt>{}</dt><dd>{}</dd></div>",
            (
                (words.humanise(str(k)), _value(v, depth + 1, extent))
                for k, v in islice(found.items(), extent.most)
            ),
        )
        return format_html('<dl class="pairs">{}{}</dl>', rows, _more(len(found), extent, "div"))
    if isinstance(found, (list, tuple)):
        if not found:
            return mark_safe('<span class="nothing">none</span>')
        if _is_table(found):
            return _table(found, extent)
        rows = format_html_join(
            "", "<li>{}</li>", ((_value(v, depth + 1, extent),) for v in islice(found, extent.most))
        )
        shown = format_html('<ul class="items">{}{}</ul>', rows, _more(len(found), extent))
        if extent.fold and len(found) > FOLDED and isinstance(found[0], (dict, list)):
            return format_html("<details><summary>{} entries</summary>{}</details>", len(found), shown)
        return shown
    return format_html("{}", str(found))


def _reference(found: dict[str, Any], extent: _Extent) -> SafeString:
    """A large value by its beginning and size, with a link to the whole where the page knows its run."""
    whole = ""
    if extent.run and _HASH.fullmatch(str(found[packed.KEY])):
        address = reverse("web:runs-value", args=[extent.run, str(found[packed.KEY])])
        whole = format_html(' <a href="{}" data-testid="whole-value">All of it</a>', address)
    beginning = _cut(str(found["begins"]), packed.BEGINS)
    return format_html(
        '<span class="prose">{} …</span> <span class="quiet">{}</span>{}',
        beginning,
        size(found["size"]),
        whole,
    )


def _is_table(found: list[Any] | tuple[Any, ...]) -> bool:
    """Objects with the same few short fields read best as rows."""
    if not isinstance(found[0], dict) or not 1 < len(found[0]) <= MOST_COLUMNS:
        return False
    return all(
        isinstance(row, dict)
        and row.keys() == found[0].keys()
        and all(
            cell is None or (isinstance(cell, (str, int, float)) and len(str(cell)) <= SHORT)
            for cell in row.values()
        )
        for row in found
    )


def _table(found: list[dict[str, Any]] | tuple[dict[str, Any], ...], extent: _Extent) -> SafeString:
    head = format_html_join("", '<th scope="col">{}</th>', ((words.humanise(str(k)),) for k in found[0]))
    rows = format_html_join(
        "",
        "<tr>{}</tr>",
        (
            (format_html_join("", "<td>{}</td>", ((_cell(c),) for c in row.values())),)
            for row in islice(found, extent.most)
        ),
    )
    more = _more(len(found), extent, "p")
    return format_html(
        '<div class="grid" tabindex="0"><table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>{}</div>',
        head,
        rows,
        more,
    )


def _cell(value: Any) -> Any:
    return "" if value is None else _cut(value, SHORT) if isinstance(value, str) else value


def _more(count: int, extent: _Extent, tag: str = "li") -> SafeString | str:
    if count <= extent.most:
        return ""
    return format_html(f'<{tag} class="quiet">and {{}} more</{tag}>', count - extent.most)
