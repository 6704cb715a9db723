"""`mn connection`: the credentials a workspace gives its blueprints' tools."""

from __future__ import annotations

import click

from apps.workspaces import selectors, services
from mirrorneuron.cli.actor import acting
from mirrorneuron.cli.frame import Command, Group, emit, read_text, table


@click.group(cls=Group)
def connection() -> None:
    """Give tools their credentials; they are sealed, and sent only to the hosts you name."""


@connection.command("list", cls=Command)
def list_() -> None:
    """List connections, without what is secret."""
    items = [
        {"name": c.name, "kind": c.kind, "hosts": c.hosts, "rotated_at": c.rotated_at}
        for c in selectors.connections_for(acting())
    ]
    rows = [[c["name"], c["kind"], ", ".join(c["hosts"])] for c in items]
    emit({"items": items}, lambda: table(rows, ("name", "kind", "hosts"), "No connections."))


@connection.command("set", cls=Command)
@click.argument("name")
@click.option("--kind", default="bearer", show_default=True, metavar="KIND")
@click.option(
    "--field", "fields", multiple=True, required=True, metavar="NAME=VALUE",
    help="One secret; NAME=@FILE reads it from a file, NAME=@- from standard input. May be repeated.",
)  # fmt: skip
@click.option(
    "--host", "hosts", multiple=True, required=True, metavar="HOST",
    help="A host the fields may be sent to, such as shop.example. May be repeated.",
)  # fmt: skip
def set_(name: str, kind: str, fields: tuple[str, ...], hosts: tuple[str, ...]) -> None:
    """Store credentials under a name; the same name again replaces them."""
    saved = services.save_connection(acting(), name, kind, dict(_field(f) for f in fields), hosts)
    emit(
        {"name": saved.name, "kind": saved.kind, "hosts": saved.hosts},
        f"Connection {saved.name!r} is saved; its fields go to {', '.join(saved.hosts)} only.",
    )


def _field(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.UsageError(f"--field {name!r} is not NAME=VALUE.")
    return name, read_text("--field", value[1:]).strip() if value.startswith("@") else value
