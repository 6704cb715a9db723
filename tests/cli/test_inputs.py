import json

import click
import pytest

from apps.workspaces.models import StoredFile
from mirrorneuron.base.errors import InvalidInput
from mirrorneuron.cli.inputs import gather, typed

SCHEMA = {
    "type": "object",
    "properties": {
        "company": {"type": "string"},
        "count": {"type": "integer"},
        "fast": {"type": "boolean"},
        "tags": {"type": "array"},
        "documents": {"format": "files"},
        "crm": {"format": "file"},
    },
}


@pytest.fixture
def folder(tmp_path):
    docs = tmp_path / "docs"
    (docs / "below").mkdir(parents=True)
    (docs / ".git").mkdir()
    for name in ("b.txt", "a.md", "below/c.csv", ".hidden", ".git/config"):
        (docs / name).write_text(f"text of {name}")
    return tmp_path


@pytest.mark.django_db
def test_a_link_that_leads_out_of_a_folder_is_refused(folder, alice, principal):
    (folder / "id_ed25519").write_text("a private key")
    link = folder / "docs" / "notes.txt"
    link.symlink_to(folder / "id_ed25519")
    with pytest.raises(InvalidInput, match="leads out of the folder"):
        gather(principal(alice), SCHEMA, (f"documents={folder / 'docs'}",), None)
    assert not StoredFile.objects.exists()
    link.unlink()
    link.symlink_to(folder / "docs" / "b.txt")
    assert len(gather(principal(alice), SCHEMA, (f"documents={folder / 'docs'}",), None)["documents"]) == 4


@pytest.mark.parametrize(
    ("text", "declared", "value"),
    [
        ("12", {"type": "string"}, "12"),
        ("12", {"type": "integer"}, 12),
        ("true", {"type": "boolean"}, True),
        ('["a"]', {"type": "array"}, ["a"]),
        ("Acme", {"type": "object"}, "Acme"),
        ("Acme", {}, "Acme"),
        ("12", {}, 12),
        ('"12"', {}, '"12"'),
        ("null", {"type": ["string", "null"]}, "null"),
    ],
)
def test_text_is_read_by_the_declared_type(text, declared, value):
    assert typed(text, declared) == value


@pytest.mark.django_db
def test_folder_means_every_visible_file_in_it(alice, principal, folder):
    got = gather(principal(alice), SCHEMA, (f"documents={folder}/docs", "company=A=B"), None)
    names = [StoredFile.objects.get(id=id).name for id in got["documents"]]
    assert names == ["a.md", "b.txt", "c.csv"] and got["company"] == "A=B"


@pytest.mark.django_db
def test_repeated_files_add_up_and_repeating_all_gives_the_same_ids(alice, principal, folder):
    pairs = (f"documents={folder}/docs/a.md", f"documents={folder}/docs/b.txt")
    first = gather(principal(alice), SCHEMA, pairs, None)
    assert len(first["documents"]) == 2
    assert gather(principal(alice), SCHEMA, pairs, None) == first


@pytest.mark.django_db
def test_paths_in_a_file_are_relative_to_it_and_a_pair_wins(alice, principal, folder, monkeypatch):
    file = folder / "inputs.json"
    file.write_text(
        json.dumps({"documents": "docs", "crm": "docs/below/c.csv", "company": "Acme", "count": 1})
    )
    monkeypatch.chdir("/")
    got = gather(principal(alice), SCHEMA, ("count=2",), str(file))
    assert len(got["documents"]) == 3 and got["company"] == "Acme" and got["count"] == 2
    assert StoredFile.objects.get(id=got["crm"]).name == "c.csv"


@pytest.mark.django_db
def test_id_of_a_stored_file_passes_through(alice, principal, folder):
    id = gather(principal(alice), SCHEMA, (f"crm={folder}/docs/a.md",), None)["crm"]
    assert gather(principal(alice), SCHEMA, (f"crm={id}", f"documents={id}"), None) == {
        "crm": id,
        "documents": [id],
    }


@pytest.mark.django_db
@pytest.mark.parametrize("pair", ["documents={}/nowhere", "crm={}/docs", "documents={}/empty"])
def test_wrong_path_names_the_input(alice, principal, folder, pair):
    (folder / "empty").mkdir()
    with pytest.raises(InvalidInput) as caught:
        gather(principal(alice), SCHEMA, (pair.format(folder),), None)
    assert set(caught.value.fields) == {pair.partition("=")[0]}


@pytest.mark.django_db
@pytest.mark.parametrize("content", ["[1]", "{", None])
def test_inputs_file_that_is_none_is_wrong_use(alice, principal, tmp_path, content):
    file = tmp_path / "inputs.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(click.UsageError, match="--inputs"):
        gather(principal(alice), SCHEMA, (), str(file))


@pytest.mark.django_db
def test_pair_without_equals_is_wrong_use(alice, principal):
    with pytest.raises(click.UsageError, match="key=value"):
        gather(principal(alice), SCHEMA, ("company",), None)
