"""`mn doctor`: what is wrong here, and why runs do not move."""

from __future__ import annotations

from typing import Any

import click

from mirrorneuron.cli.frame import FAILED, Command, emit
from mirrorneuron.doctor import examine


@click.command(cls=Command)
def doctor() -> None:
    """Check the installation, the engine's promises, and every run that does not move."""
    report = examine()
    emit(report, lambda: _text(report))
    if not report["ok"]:
        raise click.exceptions.Exit(FAILED)


def _text(report: dict[str, Any]) -> str:
    lines = []
    for check in report["checks"]:
        advice = f" {check['next']}" if check["next"] else ""
        lines.append(f"{check['level']:<5} {check['name']}: {check['found']}.{advice}")
    if report["findings"]:
        lines += ["", "Broken promises (please report these):"]
        lines += [f"  {f['invariant']} run {f['run']}: {f['what']}" for f in report["findings"]]
    if report["still"]:
        lines += ["", "Runs that do not move by themselves now:"]
        lines += [
            f"  {s['run']} {s['blueprint']} ({s['status']}): {s['why']} Needs {s['needs']}"
            for s in report["still"]
        ]
    warns = sum(check["level"] == "warn" for check in report["checks"])
    if not report["ok"]:
        verdict = "Something needs attention."
    elif warns:
        verdict = f"All right, with {warns} warning{'s' if warns != 1 else ''}."
    else:
        verdict = "Everything is well."
    lines += ["", verdict]
    return "\n".join(lines)
