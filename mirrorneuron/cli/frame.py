"""What every command shares: where the data is, `--json`, one sentence for an error, and the exit codes.

0 ok · 1 failed · 2 wrong use · 3 waiting for a person (with `--wait`) · 4 refused by policy
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import click

from mirrorneuron import __version__, datalock
from mirrorneuron.base.errors import InvalidInput, MirrorNeuronError
from mirrorneuron.base.safejson import storable
from mirrorneuron.config import config, unknown_settings

OK, FAILED, USAGE, WAITING, REFUSED = range(5)
_JSON = "mirrorneuron.json"
_ACTOR = "mirrorneuron.actor"

# --- output -----------------------------------------------------------------------------------------------


def as_json() -> bool:
    """Whether the person asked for one document on standard output."""
    context = click.get_current_context(silent=True)
    return bool(context and context.meta.get(_JSON))


def emit(document: Any, text: str | Callable[[], str]) -> None:
    """Print the result: the document with `--json`, otherwise the text."""
    if as_json():
        click.echo(json.dumps(storable(document), indent=2, ensure_ascii=False))
    else:
        click.echo(text() if callable(text) else text)


def say(text: str) -> None:
    """A message beside the result, on standard error."""
    click.echo(text, err=True)


def table(rows: Sequence[Sequence[object]], head: Sequence[str], empty: str) -> str:
    """Columns as wide as their widest cell; `empty` when there are no rows."""
    if not rows:
        return empty
    lines = [list(head), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _cell(value: object) -> str:
    text = "" if value is None else str(value).replace("\n", " ")
    return text if len(text) <= 60 else text[:59] + "…"


def chosen(name: str) -> str:
    """A common option as given: `as` or `workspace`; empty when not given."""
    context = click.get_current_context(silent=True)
    return str(context.meta.get(f"{_ACTOR}.{name}", "")) if context else ""


# --- commands ---------------------------------------------------------------------------------------------


class Command(click.Command):
    """A command with the options that all of them take."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params = [*self.params, *_common()]


class Group(click.Group):
    """A subject: a group whose commands are all `Command`s."""

    command_class = Command


def _common() -> list[click.Parameter]:
    def remember(key: str) -> Callable[[click.Context, click.Parameter, Any], None]:
        def callback(context: click.Context, parameter: click.Parameter, value: Any) -> None:
            if value:
                context.meta[key] = value

        return callback

    return [
        click.Option(
            ["--json"],
            is_flag=True,
            expose_value=False,
            callback=remember(_JSON),
            help="Print one JSON document.",
        ),
        click.Option(
            ["--data"],
            metavar="DIR",
            expose_value=False,
            help="Data folder of this installation. [env: MN_DATA; default: .mirrorneuron]",
        ),
        click.Option(
            ["--as"],
            metavar="EMAIL",
            expose_value=False,
            callback=remember(f"{_ACTOR}.as"),
            help="Who acts; on a server together with MN_TOKEN.",
        ),
        click.Option(
            ["--workspace"],
            metavar="NAME",
            expose_value=False,
            callback=remember(f"{_ACTOR}.workspace"),
            help="Which of the person's workspaces.",
        ),
    ]


def _version() -> click.Option:
    def show(context: click.Context, parameter: click.Parameter, value: bool) -> None:
        if value:
            click.echo(f"mn {__version__}")
            context.exit()

    return click.Option(["--version"], is_flag=True, is_eager=True, expose_value=False, callback=show)


def read_text(option: str, file: str) -> str:
    """The text of a file a person named, `-` for standard input. Raises click.UsageError that names both."""
    try:
        return sys.stdin.read() if file == "-" else Path(file).expanduser().read_text()
    except (OSError, UnicodeDecodeError) as exc:
        said = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8 text"
        raise click.UsageError(f"{option} {file} cannot be read: {said}.".strip()) from exc


@dataclass(frozen=True)
class Entry:
    """Where a command lies, and what `mn --help` says of it without importing it."""

    where: str
    """`module:attribute` below `mirrorneuron.cli`."""
    help: str
    house: bool = True
    """Whether Django must be loaded before the module is imported."""
    logs: bool = False
    """Whether it is a process that logs what it does; other commands only say what goes wrong."""


class Root(click.Group):
    """`mn` itself: imports a subject when it is used, and turns every error into a sentence and a code."""

    def __init__(self, *, commands_at: Mapping[str, Entry], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.commands_at = commands_at
        self.params = [*_common(), _version()]

    def list_commands(self, context: click.Context) -> list[str]:
        return list(self.commands_at)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        entry = self.commands_at.get(name)
        if entry is None:
            return None
        if not entry.logs:
            os.environ.setdefault("MN_LOG_LEVEL", "warning")
        if entry.house:
            open_house()
        module, _, attribute = entry.where.partition(":")
        command: click.Command = getattr(importlib.import_module(f"mirrorneuron.cli.{module}"), attribute)
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in self.commands_at.items()])

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        settle_data(args)
        # An error inside a subject's own parsing must already know how to speak.
        if "--json" in args:
            context.meta[_JSON] = True
        return super().parse_args(context, args)

    def invoke(self, context: click.Context) -> Any:
        for sentence in unknown_settings(os.environ):
            say(sentence)
        try:
            return super().invoke(context)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except MirrorNeuronError as exc:
            fail(exc)
        except BrokenPipeError:
            # The reader (`| head`) has seen enough.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise click.exceptions.Exit(FAILED) from None
        except Exception as exc:
            if os.environ.get("MN_DEBUG"):
                raise
            fail(unexpected(exc))


def settle_data(args: Sequence[str]) -> None:
    """Set MN_DATA from `--data`, wherever it stands: it must be known before Django is loaded."""
    for at, arg in enumerate(args):
        if arg == "--":
            return
        if arg == "--data" and at + 1 < len(args):
            os.environ["MN_DATA"] = args[at + 1]
        elif arg.startswith("--data="):
            os.environ["MN_DATA"] = arg.removeprefix("--data=")


def open_house() -> None:
    """Load Django, once. Raises ConfigurationError for a wrong setting or an unwritable data folder."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mirrorneuron.settings")
    import django
    from django.apps import apps

    if apps.ready:
        return
    if config().is_sqlite:
        datalock.make_folder(config().data)
    django.setup()


# --- errors -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def naming(file: str) -> Iterator[None]:
    """Problems raised inside are printed as lines of this file."""
    try:
        yield
    except MirrorNeuronError as exc:
        if getattr(exc, "problems", None):
            exc.attributes["file"] = file
        raise


def fail(error: MirrorNeuronError) -> NoReturn:
    """Say what is wrong and what to do, and leave with the code for it."""
    problems = [problem_view(p) for p in getattr(error, "problems", ())]
    if as_json():
        document = {
            "code": error.code,
            "message": error.message,
            "next": error.next,
            "fields": error.fields,
            **({"problems": problems} if problems else {}),
        }
        click.echo(json.dumps({"error": storable(document)}, indent=2, ensure_ascii=False))
    say(str(error))
    for problem in problems:
        say("  " + problem_line(error.attributes.get("file", "blueprint"), problem))
    for path, sentence in error.fields.items():
        if not problems and sentence not in error.message:
            say(f"  {path}: {sentence}")
    raise click.exceptions.Exit(exit_code(error))


def problem_view(problem: Any) -> dict[str, Any]:
    """A validation problem in the shape of the API."""
    return {name: getattr(problem, name) for name in ("path", "line", "level", "code", "message", "fix")}


def problem_line(file: str, problem: Mapping[str, Any]) -> str:
    """A validation problem as compilers write them, so that editors can jump to the line."""
    where = f"{file}:{problem['line']}" if problem["line"] else file
    fix = f" {problem['fix']}" if problem["fix"] else ""
    return f"{where}: {problem['level']}: {problem['message']}{fix} [{problem['code']}]"


def exit_code(error: MirrorNeuronError) -> int:
    if error.status == 403:
        return REFUSED
    if isinstance(error, InvalidInput) and not hasattr(error, "problems"):
        return USAGE
    return FAILED


def unexpected(error: Exception) -> MirrorNeuronError:
    """An error nobody foresaw, in one sentence; the traceback is for MN_DEBUG=1."""
    from django.db import DatabaseError

    from mirrorneuron import dbtrouble

    said = " ".join(str(error).split())[:300]
    if isinstance(error, DatabaseError):
        return dbtrouble.explain(error)
    return MirrorNeuronError(
        f"Something went wrong inside MirrorNeuron: {type(error).__name__}: {said}.",
        code="internal",
        next="Set MN_DEBUG=1 to see where.",
    )
