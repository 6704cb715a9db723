"""`mn bench`: what the engine costs on this machine, beside the database's own limit."""

from __future__ import annotations

from typing import Any

import click

from mirrorneuron.cli.frame import Command, emit


@click.command(cls=Command)
@click.option("--workload", default="chain10", show_default=True, type=click.Choice(["chain10"]))
@click.option("--runs", default=30, show_default=True, type=click.IntRange(1, 10_000))
def bench(workload: str, runs: int) -> None:
    """Measure the engine on the database of the environment; leaves nothing behind in it."""
    from bench import chain10
    from mirrorneuron import schema

    schema.migrate()
    figures = chain10.measure(runs)
    emit(figures, _table(figures))


def _table(figures: dict[str, Any]) -> str:
    lines = [
        f"{figures['workload']} on {figures['server']}, {figures['runs']} runs of 10 steps, one at a time",
        "",
        f"{'':24}{'recorded':>12}{'pure':>12}{'floor':>12}",
    ]
    recorded, pure, floor = figures["recorded"], figures["pure"], figures["floor"]

    def row(name: str, a: Any, b: Any, c: Any = "") -> None:
        lines.append(f"{name:24}{a!s:>12}{b!s:>12}{c!s:>12}")

    row("steps per second", recorded["steps_per_second"], pure["steps_per_second"],
        floor["step_commits_per_second"])  # fmt: skip
    row("step gap p50 (ms)", recorded["step_gap_ms"]["p50"], pure["step_gap_ms"]["p50"],
        floor["commit_ms"]["p50"])  # fmt: skip
    row("step gap p95 (ms)", recorded["step_gap_ms"]["p95"], pure["step_gap_ms"]["p95"],
        floor["commit_ms"]["p95"])  # fmt: skip
    row("run p50 (ms)", recorded["run_ms"]["p50"], pure["run_ms"]["p50"])
    row("commits per step", recorded["commits_per_step"], pure["commits_per_step"], 1)
    row("statements per step", recorded["statements_per_step"], pure["statements_per_step"], 4)
    row("entries per step", recorded["entries_per_step"], pure["entries_per_step"], 2)
    if recorded["wal_bytes_per_step"]:
        row("WAL bytes per step", recorded["wal_bytes_per_step"], pure["wal_bytes_per_step"])
    lines += [
        "",
        "recorded: each step journals one call; pure: each step only computes. Both count everything from",
        "start_run to the end. floor: the same rows by bare SQL on the same connection, one commit per step.",
    ]
    return "\n".join(lines)
