"""`mn hook`: addresses that outside systems post signed messages to."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import click

from apps.blueprints.core.durations import parse_duration
from apps.runs import hooks
from apps.runs.core.webhook import Scheme
from mirrorneuron.cli.actor import acting
from mirrorneuron.cli.address import base_url
from mirrorneuron.cli.frame import Group, emit, read_text, table


@click.group(cls=Group)
def hook() -> None:
    """Receive signed webhooks: they start runs, or tell runs what they wait for."""


@hook.command()
@click.argument("name")
@click.option("--start", "start", metavar="BLUEPRINT[@VERSION]", help="Start a run of it for each message.")
@click.option("--signal", "signal", metavar="SIGNAL", help="Or deliver this signal; may be a template.")
@click.option(
    "--map", "pairs", multiple=True, metavar="PATH=TEMPLATE",
    help="inputs.NAME or labels.NAME of the run, as in inputs.name='{{ body.customer }}'.",
)  # fmt: skip
@click.option("--label", metavar="NAME", help="The signal is for runs whose label NAME --equals a value.")
@click.option("--input", "input_", metavar="NAME", help="Or whose input NAME does.")
@click.option("--equals", metavar="TEMPLATE", help="As in '{{ body.order }}'.")
@click.option("--blueprint", metavar="NAME", help="The signal is only for runs of this blueprint.")
@click.option("--body", "body", metavar="TEMPLATE", help="What the signal says. [the whole body]")
@click.option("--key", metavar="TEMPLATE", help="Names the event, so that two messages of it are one signal.")
@click.option("--when", metavar="EXPRESSION", help="Other messages are left alone.")
@click.option("--scheme", type=click.Choice([s.value for s in Scheme]), default="standard", show_default=True)
@click.option("--tolerance", default="5m", show_default=True, metavar="DURATION", help="Age of a signature.")
@click.option("--secret-file", metavar="FILE", help="A secret the sender has made; `-` is standard input.")
def add(
    name: str,
    start: str | None,
    signal: str | None,
    pairs: tuple[str, ...],
    secret_file: str | None,
    scheme: str,
    tolerance: str,
    **given: str | None,
) -> None:
    """Open an address; it is printed with its secret, once. It acts in your name."""
    if bool(start) is bool(signal):
        raise click.UsageError("Say what a message does: --start BLUEPRINT or --signal NAME.")
    given["input"] = given.pop("input_")
    mapping: dict[str, Any] = {key: value for key, value in given.items() if value}
    mapping |= {"blueprint": start, **_mapped(pairs)} if start else {"name": signal, **_mapped(pairs)}
    opened = hooks.add_hook(
        acting(),
        hooks.HookPlan(
            name=name,
            target="start" if start else "signal",
            mapping=mapping,
            scheme=scheme,
            tolerance_seconds=int(_span("--tolerance", tolerance)),
            secret=read_text("--secret-file", secret_file).strip() if secret_file else "",
        ),
    )
    address = f"{base_url()}/api/v1/hooks/{opened.token}"
    emit(
        hooks.hook_view(opened.hook) | {"address": address, "secret": opened.secret},
        f"Hook {opened.hook.name!r} is open. Keep these two; they are not shown again.\n"
        f"address  {address}\nsecret   {opened.secret}",
    )


@hook.command("list")
def list_() -> None:
    """List hooks with what went wrong last."""
    views = [hooks.hook_view(h) for h in hooks.hooks_for(acting())]
    rows = [
        [
            v["name"],
            _does(v),
            v["scheme"],
            v["last_at"] or "never",
            (v["last_error"] or {}).get("message", ""),
        ]
        for v in views
    ]
    head = ("name", "does", "scheme", "last message", "last error")
    emit({"items": views}, lambda: table(rows, head, "No hooks."))


@hook.command()
@click.argument("name")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000))
def show(name: str, limit: int) -> None:
    """Show a hook's latest messages and what became of them."""
    found = hooks.hook_for(acting(), name)
    view = hooks.hook_view(found) | {"deliveries": hooks.deliveries_of(found, limit)}
    rows = [
        [d["received_at"], d["state"], d["key"], ", ".join(d["runs"]), (d["error"] or {}).get("message", "")]
        for d in view["deliveries"]
    ]
    head = ("received", "state", "message", "runs", "error")
    emit(view, lambda: f"{_does(view)}\n\n{table(rows, head, 'No messages.')}")


@hook.command()
@click.argument("name")
@click.option(
    "--keep", default="1d", show_default=True, metavar="DURATION", help="How long the old one holds."
)
@click.option("--secret-file", metavar="FILE", help="A secret the sender has made.")
def rotate(name: str, keep: str, secret_file: str | None) -> None:
    """Give a hook another secret; the old one stays valid for a while."""
    seconds = _span("--keep", keep)
    new = read_text("--secret-file", secret_file).strip() if secret_file else ""
    opened = hooks.rotate_hook(acting(), name, new=new, keep_old=timedelta(seconds=seconds))
    emit(
        hooks.hook_view(opened.hook) | {"secret": opened.secret},
        f"The new secret of {opened.hook.name!r}: {opened.secret}\n"
        + (f"The old one stays valid for {keep}." if seconds else "The old one is no longer valid."),
    )


@hook.command()
@click.argument("name")
def remove(name: str) -> None:
    """Close an address; what it started goes on."""
    hooks.remove_hook(acting(), name)
    emit({"removed": name}, f"Hook {name!r} is closed.")


def _does(view: dict[str, Any]) -> str:
    mapping = view["mapping"]
    if view["target"] == "start":
        return f"starts {mapping['blueprint']}"
    which = mapping.get("label") or mapping.get("input")
    return f"signal {mapping['name']} where {which} = {mapping['equals']}"


def _mapped(pairs: tuple[str, ...]) -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    for pair in pairs:
        path, equals, template = pair.partition("=")
        section, _, name = path.partition(".")
        if not equals or section not in ("inputs", "labels") or not name:
            raise click.UsageError(f"--map {pair!r} is not inputs.NAME=TEMPLATE or labels.NAME=TEMPLATE.")
        mapping.setdefault(section, {})[name] = template
    return mapping


def _span(option: str, text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a duration such as 5m or 1d.", param_hint=option)
