"""`mn`, the command line: a door like the pages and the API. It parses, calls one service or selector,
prints.

Subjects lie in modules of their own and are imported when used, so that `mn up` and `mn --help` start without
Django. `frame` holds what every command shares: `--json`, `--data`, errors and exit codes.
"""

from __future__ import annotations

from mirrorneuron.cli.frame import Entry, Root

COMMANDS = {
    "up": Entry(
        "up:up", "Start everything on this machine and print a sign-in link.", house=False, logs=True
    ),
    "run": Entry("run:run", "Start a run of a blueprint."),
    "runs": Entry("runs:runs", "Look at runs, pause, resume or cancel them."),
    "schedule": Entry("schedule:schedule", "Start runs again and again."),
    "signal": Entry("signal:signal", "Tell a run something it waits for."),
    "hook": Entry("hook:hook", "Receive signed webhooks that start runs or tell them something."),
    "approvals": Entry("approvals:approvals", "Look at what waits for a person, and decide."),
    "limits": Entry("limits:limits", "Limit calls of tools, models and people; see what rests or is down."),
    "effects": Entry("effects:effects", "Look at what touched the world; settle what is in doubt."),
    "blueprint": Entry("blueprint:blueprint", "Check, import, publish, export and draw blueprints."),
    "schema": Entry("blueprint:schema", "Write the JSON Schema of the blueprint format."),
    "doctor": Entry("doctor:doctor", "Say what is wrong with this installation and why a run does not move."),
    "web": Entry("processes:web", "Serve pages and API only (servers).", logs=True),
    "worker": Entry("processes:worker", "Work on runs only (servers).", logs=True),
    "migrate": Entry("processes:migrate", "Bring the database up to date."),
    "user": Entry("people:user", "Add people, give them a sign-in link or a password."),
    "connection": Entry("connections:connection", "Give tools the credentials they need."),
    "token": Entry("people:token", "Create, list and revoke API tokens."),
    "backup": Entry("backup:backup", "Write the database and all files to one file.", house=False),
    "restore": Entry("backup:restore", "Put a backup back.", house=False),
    "bench": Entry("bench:bench", "Measure the engine on this machine.", house=False),
}

main = Root(
    name="mn", commands_at=COMMANDS, help="MirrorNeuron: workflows that lose nothing and repeat nothing."
)
