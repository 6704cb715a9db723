"""Archiving runs and bringing them back from a terminal."""

from __future__ import annotations

from datetime import timedelta

import pytest

from apps.runs.models import Run
from apps.runs.services import start_run
from mirrorneuron.base.clock import now
from tests.runs.engine import version_of, work_all

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def run(workspace, alice, principal):
    version = version_of(workspace, [{"id": "a", "kind": "transform", "output": "{{ inputs.n }}"}])
    run = start_run(principal(alice), version, {"n": 7})
    work_all()
    return run


def test_a_run_is_archived_removed_and_brought_back(mn, run):
    shown = mn("runs", "show", run.id, "--json").json
    said = mn("runs", "archive", run.id, "--delete", "--json")
    assert said.code == 0 and said.json["items"][0]["rows"]["runs.step"] == 1
    gone = mn("runs", "show", run.id)
    assert gone.code == 1 and "was archived on" in gone.err and "mn runs restore" in gone.err
    assert mn("runs", "restore", run.id).out == f"Run {run.id} of {run.blueprint_name} is back.\n"
    assert mn("runs", "show", run.id, "--json").json == shown


def test_it_comes_back_from_its_file_too(mn, run, tmp_path):
    said = mn("runs", "archive", run.id, "--folder", tmp_path, "--json")
    assert mn("runs", "show", run.id).code == 0, "archiving alone removes nothing"
    file = said.json["items"][0]["file"]
    assert file.startswith(str(tmp_path))
    assert "is here already" in mn("runs", "restore", file).err


def test_old_runs_are_chosen_by_their_end(mn, run):
    assert mn("runs", "archive", "--older-than", "90d", "--preview", "--json").json == {"runs": []}
    then = now() - timedelta(days=100)
    Run.objects.update(created_at=then, ended_at=then)
    assert mn("runs", "archive", "--older-than", "90d", "--preview", "--json").json == {"runs": [str(run.id)]}
    assert Run.objects.count() == 1
    assert "1 runs archived and removed." in mn("runs", "archive", "--older-than", "90d", "--delete").out
    assert Run.objects.count() == 0


def test_wrong_use_is_said(mn, run):
    assert mn("runs", "archive").code == 2
    assert mn("runs", "archive", run.id, "--older-than", "1d").code == 2
    assert mn("runs", "archive", "--older-than", "soon").code == 2
    assert mn("runs", "restore", "/nowhere.jsonl.gz").code == 1


def test_removing_takes_an_administrator_and_strangers_find_nothing(mn, run, bob, charlie):
    assert mn("runs", "archive", run.id, "--delete", as_=bob).code == 4
    assert mn("runs", "archive", run.id, "--delete", as_=charlie).code == 1
    mn("runs", "archive", run.id, "--delete")
    assert mn("runs", "restore", run.id, as_=bob).code == 4
    assert mn("runs", "restore", run.id, as_=charlie).code == 1
    assert Run.objects.count() == 0
