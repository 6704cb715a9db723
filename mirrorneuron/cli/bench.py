"""`mn bench`: what the engine costs on this machine, beside the database's own limit and beside others."""

from __future__ import annotations

import os
from pathlib import Path

import click

from mirrorneuron.base.errors import ConfigurationError, Unavailable
from mirrorneuron.cli.frame import FAILED, Command, emit, say

NAMES = ("W1", "W2", "W3", "W4", "W5", "W6", "W7")


@click.command(cls=Command)
@click.option(
    "--workload", "workloads", multiple=True, type=click.Choice(NAMES), help="Only this one; may be repeated."
)
@click.option("--rounds", type=click.IntRange(1, 100), help="How often everything is measured. [default: 3]")
@click.option("--quick", is_flag=True, help="One small round, to see that it works.")
@click.option("--own-postgres", is_flag=True, help="Start a PostgreSQL server for this, used by nobody else.")
@click.option("--peers", is_flag=True, help="Measure DBOS and LangGraph in turn (see `make bench PEERS=1`).")
@click.option("--markdown", is_flag=True, help="Print the tables as Markdown.")
def bench(
    workloads: tuple[str, ...],
    rounds: int | None,
    quick: bool,
    own_postgres: bool,
    peers: bool,
    markdown: bool,
) -> None:
    """Measure the engine on databases of its own, made on the server of DATABASE_URL and dropped afterwards.

    Without DATABASE_URL and --own-postgres it measures the embedded default, SQLite.
    """
    from bench import conduct, report
    from bench.stage import set_up

    url = os.environ.get("DATABASE_URL", "")
    if peers and not (own_postgres or url.startswith("postgres")):
        raise ConfigurationError(
            "--peers needs PostgreSQL: that is where they keep their state.",
            next="Set DATABASE_URL, or add --own-postgres.",
        )
    python = _peers_python() if peers else ""
    try:
        with set_up(
            conduct.scale_of(quick=quick, rounds=rounds),
            database_url=url,
            own_postgres=own_postgres,
            peers=tuple(conduct.PEERS) if peers else (),
            peers_python=python,
            say=say,
        ) as stage:
            document = conduct.conduct(stage, workloads or NAMES)
    except FileNotFoundError as exc:
        raise Unavailable(str(exc), next="Or set DATABASE_URL to a server that is there.") from exc
    emit(document, lambda: report.tables(document, markdown=markdown))
    if document["problems"]:
        raise click.exceptions.Exit(FAILED)


def _peers_python() -> str:
    from bench.subject import ROOT

    python = Path(ROOT, ".venv-peers", "bin", "python")
    if not python.exists():
        raise Unavailable(
            "The peers are not installed: .venv-peers is missing.",
            next="Run `make peers` once, then this again; or `make bench PEERS=1`, which does both.",
        )
    return str(python)
