"""Whether the database has every table, and how it gets them.

Asking Django for its migration plan imports every migration; a restart after a crash has no time for that.
Comparing file names with the rows of `django_migrations` says the same in a millisecond or two.
"""

from __future__ import annotations

from pathlib import Path

from django.apps import apps
from django.conf import settings
from django.core.management import call_command
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder


def pending() -> list[str]:
    """Migrations on disk that this database has not applied, as `app.name`, in no special order."""
    applied = set(MigrationRecorder(connection).applied_migrations())
    elsewhere = settings.MIGRATION_MODULES
    return [
        f"{config.label}.{file.stem}"
        for config in apps.get_app_configs()
        if not (config.label in elsewhere and elsewhere[config.label] is None)  # tests switch them off so
        for file in sorted(Path(config.path, "migrations").glob("[0-9]*.py"))
        if (config.label, file.stem) not in applied and not _is_replaced(config.label, file, applied)
    ]


def migrate() -> list[str]:
    """Apply what is pending and return it; cheap when nothing is."""
    missing = pending()
    if missing:
        call_command("migrate", interactive=False, verbosity=0)
    return missing


def _is_replaced(label: str, file: Path, applied: set[tuple[str, str]]) -> bool:
    """A squashed migration counts as applied once its last original is; contrib apps ship none."""
    _, squashed, last = file.stem.partition("_squashed_")
    return bool(squashed) and (label, last) in applied
