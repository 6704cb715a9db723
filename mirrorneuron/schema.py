"""Whether the database has every table, and how it gets them.

Asking Django for its migration plan imports every migration; a restart after a crash has no time for that.
Comparing file names with the rows of `django_migrations` says the same in a millisecond or two.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from django.apps import AppConfig, apps
from django.conf import settings
from django.core.management import call_command
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

from apps.runs import hot_tables


def pending() -> list[str]:
    """Migrations on disk that this database has not applied, as `app.name`, in no special order."""
    applied = set(MigrationRecorder(connection).applied_migrations())
    return [
        f"{config.label}.{file.stem}"
        for config in apps.get_app_configs()
        for file in _files(config)
        if (config.label, file.stem) not in applied and not _is_replaced(config.label, file, applied)
    ]


def migrate() -> list[str]:
    """Apply what is pending and return it; cheap when nothing is."""
    missing = pending()
    if missing:
        call_command("migrate", interactive=False, verbosity=0)
    hot_tables.apply()  # Whatever an administrator or an earlier release has left otherwise.
    return missing


def _files(config: AppConfig) -> list[Path]:
    """The migrations of an app, where `MIGRATION_MODULES` says they are; None there means it has none."""
    folder = Path(config.path, "migrations")
    if config.label in settings.MIGRATION_MODULES:
        module = settings.MIGRATION_MODULES[config.label]
        if module is None:
            return []
        folder = Path(import_module(module).__path__[0])
    return sorted(folder.glob("[0-9]*.py"))


def _is_replaced(label: str, file: Path, applied: set[tuple[str, str]]) -> bool:
    """A squashed migration counts as applied once its last original is; contrib apps ship none."""
    _, squashed, last = file.stem.partition("_squashed_")
    return bool(squashed) and (label, last) in applied
