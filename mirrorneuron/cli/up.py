"""`mn up`: everything in one process under a small supervisor. Loads no Django itself."""

from __future__ import annotations

import json
import os
import sys
import webbrowser
from typing import Any

import click

from mirrorneuron.base.errors import ConfigurationError
from mirrorneuron.cli.frame import FAILED, Command, as_json, say
from mirrorneuron.config import read_config
from mirrorneuron.supervisor import Supervisor


@click.command(cls=Command)
@click.option(
    "--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0 chooses a free one."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--no-browser", is_flag=True, help="Do not open the browser.")
def up(port: int, host: str, no_browser: bool) -> None:
    """Start everything on this machine and print a one-time sign-in link."""
    config = read_config()
    if config.broker_url:
        raise ConfigurationError(
            "BROKER_URL is set, but `mn up` runs its worker inside the web process.",
            next="Unset BROKER_URL, or start `mn web` and `mn worker` instead.",
        )
    show = as_json()

    def ready(facts: dict[str, Any]) -> None:
        if show:
            click.echo(json.dumps(facts))
        else:
            click.echo(f"MirrorNeuron is ready. Sign in (works once, for 15 minutes): {facts['sign_in']}")
        sys.stdout.flush()
        if not no_browser and has_display():
            webbrowser.open(facts["sign_in"])

    if not show:
        say(f"Starting with the data in {config.data} …")
    code = Supervisor(config.data, host=host, port=port, when_ready=ready, say=say).run()
    raise click.exceptions.Exit(FAILED if code else 0)


def has_display() -> bool:
    """Whether a browser has a screen to open on; without one, a text browser would take the terminal over."""
    if sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
