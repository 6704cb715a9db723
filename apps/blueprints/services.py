"""Everything that writes blueprints: import, publish, install, archive, and the gallery's copy of the disk.

A blueprint's row is locked while a version is added, so that numbers never collide; what is refused stores
nothing.

YAML and the rules are loaded where they are used: a worker, which looks versions up here, never checks one.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models import Max

from apps.blueprints.core import canonical
from apps.blueprints.core.document import Document
from apps.blueprints.core.problems import Problem
from apps.blueprints.errors import (
    BlueprintArchived,
    BlueprintInvalid,
    BlueprintNotFound,
    NameMismatch,
    NameTaken,
)
from apps.blueprints.models import Blueprint, GalleryItem, Version
from apps.blueprints.ports import builtin_tools
from apps.blueprints.selectors import blueprint_for, gallery_item, version_for
from apps.workspaces.access import Principal
from apps.workspaces.core.roles import Permission
from apps.workspaces.services import audit
from mirrorneuron.base.clock import now
from mirrorneuron.base.errors import InvalidInput
from mirrorneuron.base.logs import logger

if TYPE_CHECKING:
    from apps.blueprints.core.validate import Validation

log = logger(__name__)
FILE_NAMES = ("blueprint.yaml", "blueprint.yml", "blueprint.json")
_REFERENCE = re.compile(r"^(?P<name>[^@]+)(?:@(?P<number>[0-9]{1,9}))?$")


# --- checking ---------------------------------------------------------------------------------------------


def check_source(text: str, *, publishing: bool = False) -> Validation:
    """Validate a text with the built-in tools and those it declares. Stores nothing.

    A stand-alone `workflow_contract` is checked as the skeleton it would become; the import's own problems
    come first, with the lines of the contract.
    """
    from apps.blueprints.core.contract_import import import_contract, is_contract
    from apps.blueprints.core.parse import parse
    from apps.blueprints.core.validate import Validation, validate

    parsed = parse(text)
    if not is_contract(parsed):
        return validate(parsed, builtin_tools(), publishing=publishing)
    skeleton, problems = import_contract(text, builtin_tools())
    if not skeleton:
        return Validation(None, problems)
    found = validate(parse(skeleton), builtin_tools(), publishing=publishing)
    # The skeleton's lines are not lines of the text that was given.
    rest = [replace(p, line=None) for p in found.problems if p.code != "placeholder_tool"]
    return Validation(found.document, [*problems, *rest], found.remainder)


def contract_skeleton(text: str) -> tuple[str, list[Problem]]:
    """The blueprint text a stand-alone contract becomes, with the tools of this runtime. Stores nothing."""
    from apps.blueprints.core.contract_import import import_contract

    return import_contract(text, builtin_tools())


# --- importing and publishing -----------------------------------------------------------------------------


def import_blueprint(principal: Principal, text: str, *, publish: bool = True, notes: str = "") -> Version:
    """Store a text as a version of the blueprint it names; the blueprint is made when it is new.

    publish: give it the next number; identical content gives the version that has it already. A stand-alone
    `workflow_contract` is stored as an unpublished skeleton, since it still lacks a card; what is left to
    do is in `check_source(text)` and `selectors.problems_of(version)`.
    Raises BlueprintInvalid with every problem, NameTaken never, BlueprintArchived.
    """
    principal.require(Permission.EDIT)
    from apps.blueprints.core.contract_import import import_contract, is_contract
    from apps.blueprints.core.parse import parse

    if is_contract(parse(text)):
        skeleton, problems = import_contract(text, builtin_tools())
        if not skeleton or any(p.level == "error" for p in problems):
            raise BlueprintInvalid(problems)
        text, publish = skeleton, False
    return _store(principal, text, _checked(text, publishing=publish), publish=publish, notes=notes)


def store_unpublished(principal: Principal, text: str) -> Version:
    """Keep a text as an immutable version without a number: what `mn run FILE` runs.

    Identical content gives the version that has it already, published or not.
    """
    return import_blueprint(principal, text, publish=False)


def publish(principal: Principal, name: str, text: str, notes: str = "") -> Version:
    """Publish a text as the next version of a blueprint.

    Identical content gives the version that has it already; an unpublished one gets a number.
    Raises BlueprintInvalid, NameMismatch, BlueprintArchived.
    """
    principal.require(Permission.EDIT)
    document = _checked(text, publishing=True)
    if document.metadata.name != name:
        raise NameMismatch(
            f'The text is the blueprint "{document.metadata.name}", not "{name}".',
            fields={"metadata.name": f'is "{document.metadata.name}", expected "{name}"'},
            next=f'Write metadata.name: {name}, or publish it as "{document.metadata.name}".',
        )
    return _store(principal, text, document, publish=True, notes=notes)


def export(principal: Principal, name: str, number: int | None = None) -> str:
    """The text of a version as its author wrote it; the latest published one, or else the shared draft."""
    from apps.blueprints.drafts import draft_for

    blueprint = blueprint_for(principal, name)
    if number is None and not blueprint.versions.filter(number__isnull=False).exists():
        return draft_for(principal, name).source
    return version_for(principal, name, number).source


@transaction.atomic
def create_blueprint(principal: Principal, title: str) -> Blueprint:
    """Make a blueprint without steps, to be drawn in the editor; its name comes from its title.

    Its first text is kept as an unpublished version: pages, exports and drafts start from it.
    Raises InvalidInput for a title that is empty or longer than 200 characters.
    """
    from apps.blueprints.core.parse import parse
    from apps.blueprints.core.skeleton import empty_blueprint, name_for
    from apps.blueprints.core.validate import validate

    principal.require(Permission.EDIT)
    title = " ".join(title.split())
    if not title or len(title) > 200:
        raise InvalidInput(
            "A blueprint needs a title of at most 200 characters.",
            fields={"title": "Write what it does, in a few words."},
            next="Write a title; everything else can wait.",
        )
    taken = {
        *Blueprint.objects.filter(workspace=principal.workspace).values_list("name", flat=True),
        *GalleryItem.objects.values_list("name", flat=True),
    }
    text = empty_blueprint(name_for(title, taken), title)
    document = validate(parse(text), builtin_tools()).document
    assert document is not None  # It fits the format; that no step is there yet, the editor says.
    version = _store(principal, text, document, publish=False)
    audit(principal, "blueprint.created", version.blueprint.name)
    return version.blueprint


@transaction.atomic
def archive(principal: Principal, name: str) -> Blueprint:
    """Take a blueprint out of use: its runs go on, nothing new starts, the name stays taken."""
    principal.require(Permission.EDIT)
    blueprint = Blueprint.objects.select_for_update().get(pk=blueprint_for(principal, name).pk)
    if blueprint.archived_at is None:
        blueprint.archived_at = now()
        blueprint.save(update_fields=["archived_at"])
        audit(principal, "blueprint.archived", name)
    return blueprint


@transaction.atomic
def restore(principal: Principal, name: str) -> Blueprint:
    """Bring an archived blueprint back."""
    principal.require(Permission.EDIT)
    blueprint = Blueprint.objects.select_for_update().get(pk=blueprint_for(principal, name).pk)
    if blueprint.archived_at is not None:
        blueprint.archived_at = None
        blueprint.save(update_fields=["archived_at"])
        audit(principal, "blueprint.restored", name)
    return blueprint


def checked(text: str) -> Document:
    """A text that could be stored. Raises BlueprintInvalid with every problem."""
    return _checked(text, publishing=False)


def store_copy(principal: Principal, text: str, document: Document, origin: dict[str, Any]) -> Version:
    """Keep a text as the first, unpublished version of a new blueprint that remembers where it came from."""
    return _store(principal, text, document, publish=False, origin=origin)


def _validated(text: str, *, publishing: bool) -> Validation:
    from apps.blueprints.core.parse import parse
    from apps.blueprints.core.validate import validate

    return validate(parse(text), builtin_tools(), publishing=publishing)


def _checked(text: str, *, publishing: bool) -> Document:
    found = _validated(text, publishing=publishing)
    if not found.valid or found.document is None:
        raise BlueprintInvalid(found.problems)
    return found.document


@transaction.atomic
def _store(
    principal: Principal,
    text: str,
    document: Document,
    *,
    publish: bool,
    notes: str = "",
    origin: dict[str, Any] | None = None,
) -> Version:
    blueprint = _locked(principal, document, origin)
    version = blueprint.versions.filter(content_hash=canonical.content_hash(document)).first()
    if version is None:
        version = Version.objects.create(
            blueprint=blueprint,
            number=_next_number(blueprint) if publish else None,
            content_hash=canonical.content_hash(document),
            document=canonical.stored(document),
            source=text,
            notes=notes,
            created_by=principal.user,
        )
    elif publish and version.number is None:
        version.give_number(_next_number(blueprint), notes)
    else:
        return version
    if publish:
        _describe(blueprint, document)
        audit(
            principal,
            "blueprint.published",
            f"{blueprint.name}@{version.number}",
            {"hash": version.content_hash, "notes": notes},
        )
    return version


def _locked(principal: Principal, document: Document, origin: dict[str, Any] | None) -> Blueprint:
    """The blueprint's row, made when it is new, locked until the transaction ends."""
    name = document.metadata.name
    made, _ = Blueprint.objects.get_or_create(
        workspace=principal.workspace,
        name=name,
        defaults={"title": _title(document), "origin": origin, "created_by": principal.user},
    )
    blueprint = Blueprint.objects.select_for_update().get(pk=made.pk)
    if blueprint.archived_at is not None:
        raise BlueprintArchived(
            f'The blueprint "{name}" is archived; the name stays taken.',
            next="Restore it, or choose another metadata.name.",
        )
    if not blueprint.versions.filter(is_trial=False).exists():
        _describe(blueprint, document)
    return blueprint


def _describe(blueprint: Blueprint, document: Document) -> None:
    blueprint.title = _title(document)
    blueprint.workflow_class = document.metadata.workflow_class[:64]
    blueprint.summary = document.metadata.summary
    blueprint.save(update_fields=["title", "workflow_class", "summary"])


def _title(document: Document) -> str:
    return (document.metadata.title or document.metadata.name)[:200]


def _next_number(blueprint: Blueprint) -> int:
    latest = blueprint.versions.aggregate(latest=Max("number"))["latest"]
    return int(latest or 0) + 1


# --- gallery ----------------------------------------------------------------------------------------------


def install(principal: Principal, gallery_name: str) -> Version:
    """Copy a gallery blueprint into the workspace as a published version. Doing it twice changes nothing.

    A newer gallery text does not replace an installed one: an upgrade is offered, never taken.
    Raises NameTaken when the workspace has a blueprint of its own by that name.
    """
    if not principal.may(Permission.EDIT):
        principal.require(Permission.OPERATE)
    item = gallery_item(gallery_name)
    with transaction.atomic():
        existing = Blueprint.objects.filter(workspace=principal.workspace, name=item.name).first()
        if existing is not None and (existing.origin or {}).get("gallery") != item.name:
            same = existing.versions.filter(content_hash=item.content_hash, number__isnull=False).first()
            if same is not None and existing.archived_at is None:
                return same
            raise NameTaken(
                f'This workspace has its own blueprint "{item.name}".',
                next=f"Run your own, or rename it before you install {item.name} from the gallery.",
            )
        if existing is not None and existing.versions.filter(number__isnull=False).exists():
            _refuse_archived(existing)
            return version_for(principal, item.name)
        origin = {"gallery": item.name, "hash": item.content_hash}
        document = _checked(item.source, publishing=True)
        return _store(
            principal, item.source, document, publish=True, notes="Installed from the gallery.", origin=origin
        )


def version_for_run(principal: Principal, reference: str) -> Version:
    """The version `name` (the latest published) or `name@3` means; gallery names are installed on first use.

    Raises BlueprintNotFound, VersionNotFound, BlueprintArchived.
    """
    principal.require(Permission.OPERATE)
    match = _REFERENCE.match(reference.strip())
    if match is None:
        raise BlueprintNotFound(
            f'"{reference}" names no blueprint.', next="Write its name, or name@3 for version 3."
        )
    name, number = match["name"], match["number"]
    blueprint = Blueprint.objects.filter(workspace=principal.workspace, name=name).first()
    if blueprint is None and GalleryItem.objects.filter(name=name).exists():
        install(principal, name)
    elif blueprint is not None:
        _refuse_archived(blueprint)
    return version_for(principal, name, int(number) if number else None)


def _refuse_archived(blueprint: Blueprint) -> None:
    if blueprint.archived_at is not None:
        raise BlueprintArchived(
            f'The blueprint "{blueprint.name}" is archived, so nothing new starts from it.',
            next="Restore it first.",
        )


def sync_gallery(directory: str | Path) -> list[str]:
    """Copy the gallery from disk: new and changed folders are stored, vanished ones removed.

    Returns the names that changed. A folder that cannot be used is logged with its problems and left out,
    so that one bad folder never stops the start.
    """
    root = Path(directory)
    folders = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    changed: list[str] = []
    found: set[str] = set()
    for position, folder in enumerate(folders):
        source = next((folder / name for name in FILE_NAMES if (folder / name).is_file()), None)
        if source is None:
            continue
        try:
            item = _read_folder(folder, source, position)
        except (OSError, UnicodeDecodeError) as exc:
            log.error("gallery.unreadable", folder=folder.name, error=str(exc))
            continue
        if item is None:
            continue
        found.add(item.name)
        if _store_item(item):
            changed.append(item.name)
    with transaction.atomic():
        gone = GalleryItem.objects.exclude(name__in=found)
        changed.extend(gone.values_list("name", flat=True))
        gone.delete()
    return changed


def _read_folder(folder: Path, source: Path, position: int) -> GalleryItem | None:
    text = source.read_text(encoding="utf-8")
    checked = _validated(text, publishing=True)
    if not checked.valid or checked.document is None:
        for problem in checked.errors:
            log.error(
                "gallery.invalid",
                folder=folder.name,
                line=problem.line,
                path=problem.path,
                problem=problem.message,
            )
        return None
    document = checked.document
    readme = folder / "README.md"
    return GalleryItem(
        name=document.metadata.name,
        content_hash=canonical.content_hash(document),
        title=_title(document),
        workflow_class=document.metadata.workflow_class[:64],
        summary=document.metadata.summary,
        tags=list(document.metadata.tags),
        document=canonical.stored(document),
        source=text,
        readme=readme.read_text(encoding="utf-8") if readme.is_file() else "",
        position=position,
        samples=_samples(folder),
    )


def _samples(folder: Path) -> dict[str, Any]:
    path = folder / "inputs" / "sample.json"
    if not path.is_file():
        return {}
    try:
        samples = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as exc:
        log.error("gallery.bad_sample", folder=folder.name, error=str(exc))
        return {}
    return samples if isinstance(samples, dict) else {}


@transaction.atomic
def _store_item(item: GalleryItem) -> bool:
    """Write one item when anything about it differs; says whether it did."""
    fields = ("content_hash", "title", "workflow_class", "summary", "tags", "document", "source", "readme",
              "position", "samples")  # fmt: skip
    old = GalleryItem.objects.select_for_update().filter(name=item.name).first()
    if old is not None and all(getattr(old, f) == getattr(item, f) for f in fields):
        return False
    item.save(force_insert=old is None)
    return True
