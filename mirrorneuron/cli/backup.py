"""`mn backup` and `mn restore`: the whole installation in one file."""

from __future__ import annotations

from pathlib import Path

import click

from mirrorneuron.cli.frame import Command, emit


@click.command(cls=Command)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--include-key", is_flag=True, help="Put the secret key in too; then the file holds every credential."
)
def backup(file: Path, include_key: bool) -> None:
    """Write the database and all files to FILE while everything goes on."""
    from mirrorneuron.backup import back_up

    manifest = back_up(file, with_key=include_key)
    size = sum(member["size"] for member in manifest["members"].values())
    emit(
        {"file": str(file), **manifest},
        f"{file} holds the {manifest['database']} database and {len(manifest['members']) - 1} files "
        f"({size / 1e6:,.1f} MB).\nSecret key {manifest['secret_key']}.",
    )


@click.command(cls=Command)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--overwrite", is_flag=True, help="Replace the data that is here; it is set aside, not deleted."
)
def restore(file: Path, overwrite: bool) -> None:
    """Put a backup back. Stop `mn up` and every worker first."""
    from mirrorneuron.backup import put_back

    manifest = put_back(file, overwrite=overwrite)
    aside = f"\nWhat was here is in {manifest['aside']}." if manifest["aside"] else ""
    emit(
        manifest,
        f"Restored the backup of {manifest['at'][:19]} (version {manifest['version']}).{aside}\n"
        f"Secret key {manifest['secret_key']}.\nRun `mn migrate`, or start `mn up`.",
    )
