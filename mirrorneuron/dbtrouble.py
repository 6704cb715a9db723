"""Says in a sentence why the database cannot be used: nobody answers, a name is wrong, a table is missing."""

from __future__ import annotations

import re

from django.db import DatabaseError, OperationalError, connection

from mirrorneuron.base.errors import MirrorNeuronError, Unavailable

_NAME = r'["»„“\']?(?P<name>[^"»«“”\']*)["«“”\']?'
_REFUSALS: tuple[tuple[str, str, str], ...] = (
    (rf"database {_NAME} does not exist", "The database {name} on {host} does not exist.",
     "Create it, or correct the name in DATABASE_URL."),
    (rf"role {_NAME} does not exist", "The database server at {host} knows no role {name}.",
     "Create it, or correct the user in DATABASE_URL."),
    (rf"(?:password|ident|peer) authentication failed(?: for user {_NAME})?|no password supplied",
     "The database server at {host} refuses the user {user}: wrong or missing password.",
     "Correct the user or the password in DATABASE_URL."),
    (r"no pg_hba\.conf entry", "The database server at {host} does not let this machine in as {user}.",
     "Allow it in the server's pg_hba.conf."),
    (rf"permission denied for (?:database|schema) {_NAME}",
     "The role {user} may not use {name} in the database {database} on {host}.",
     "Grant it the rights, or make it the owner."),
    (r"too many (?:clients|connections)|remaining connection slots",
     "The database server at {host} has no free connection.", "Try again, or raise max_connections."),
    (r"starting up|shutting down|recovery mode", "The database server at {host} is not ready yet.",
     "Try again in a moment."),
    (r"could not translate host name|failed to resolve host|name or service not known|getaddrinfo",
     "There is no host {host}.", "Correct the host in DATABASE_URL."),
    (r"connection refused", "The database server at {host} refuses the connection; nobody listens there.",
     "Start it, or correct the host and port in DATABASE_URL."),
    (r"timeout expired|timed out|no route to host|network is unreachable",
     "The database server at {host} does not answer.",
     "Check the network, or correct the host and port in DATABASE_URL."),
    (r"file is not a database", "The file {database} is not a SQLite database.",
     "Choose another data folder, or restore it from a backup."),
    (r"unable to open database file", "The database file {database} cannot be opened.",
     "Make its folder writable, or choose another with --data or MN_DATA."),
    (r"disk is full|no space left|could not extend file",
     "The disk that holds the database {database} is full.",
     "Make room on it; `mn runs archive` and MN_KEEP_RUNS_DAYS keep the database small."),
    (r"readonly database", "The database file {database} is read-only.", "Make it writable."),
)  # fmt: skip
_MISSING_TABLE = re.compile(r"no such (?:table|column)|(?:relation|column) \S+ does not exist", re.IGNORECASE)


def explain(error: DatabaseError) -> MirrorNeuronError:
    """What a person can do about an error of the database."""
    said = " ".join(str(error).split())
    if _MISSING_TABLE.search(said):
        return MirrorNeuronError(
            "The database is not up to date.", code="not_migrated", next="Run `mn migrate` and try again."
        )
    for pattern, sentence, advice in _REFUSALS:
        found = re.search(pattern, said, re.IGNORECASE)
        if found:
            name = found.groupdict().get("name")
            return Unavailable(
                sentence.format(**{**_facts(), **({"name": name} if name else {})}),
                code="database",
                next=advice,
            )
    what = "cannot be reached" if isinstance(error, OperationalError) else "cannot be used"
    return Unavailable(
        f"The database {what}: {said[:300].rstrip('.')}.", code="database", next="`mn doctor` says more."
    )


def _facts() -> dict[str, str]:
    """Where this installation looks for its database; never its password."""
    settings = connection.settings_dict
    return {
        "database": str(settings["NAME"]),
        "name": str(settings["NAME"]),
        "user": str(settings["USER"]) or "of this process",
        "host": (str(settings["HOST"]) or "this machine")
        + (f":{settings['PORT']}" if settings["PORT"] else ""),
    }
