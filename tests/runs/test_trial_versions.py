"""Versions that tests were made from go with the last of their runs, never before, and come back with one."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from apps.blueprints import services
from apps.blueprints.core.trial import Aim
from apps.blueprints.models import Version
from apps.runs import retention, trials
from apps.runs.archive import restore_archive, write_archive
from apps.runs.chores import round_of_chores
from apps.runs.models import Run
from apps.runs.selectors import runs_for, steps_of
from apps.workspaces.models import User, Workspace
from mirrorneuron.base.clock import now
from tests.runs.engine import DIVIDE, work_all

pytestmark = pytest.mark.django_db(transaction=True)
LONG_AGO = timedelta(days=2)


@pytest.fixture
def owner(alice: User, principal: Any) -> Any:
    found = principal(alice)
    services.import_blueprint(found, DIVIDE)
    return found


def tried(owner: Any, by: int = 2) -> Run:
    run = trials.start_trial(owner, "divide", Aim("whole"), {"by": by})
    work_all()
    Version.objects.filter(is_trial=True).update(created_at=now() - LONG_AGO)
    return run


def test_a_version_stays_while_a_run_uses_it_and_goes_with_the_last(owner: Any) -> None:
    one, other = tried(owner), tried(owner, by=4)
    assert one.version_id == other.version_id and retention.forget_trials() == 0

    retention.remove_run(one.id, archive=None)
    assert retention.forget_trials() == 0 and Version.objects.filter(is_trial=True).exists()
    retention.remove_run(other.id, archive=None)
    assert round_of_chores()["trials"] == 1
    assert [v.number for v in Version.objects.all()] == [1]
    assert tried(owner).version.is_trial


def test_a_test_that_is_just_being_started_keeps_its_version(owner: Any) -> None:
    run = tried(owner)
    retention.remove_run(run.id, archive=None)
    Version.objects.filter(is_trial=True).update(created_at=now())
    assert retention.forget_trials() == 0


def test_what_cannot_be_started_leaves_no_version(owner: Any) -> None:
    with pytest.raises(Exception, match="by"):
        trials.start_trial(owner, "divide", Aim("whole"), {})
    assert not Version.objects.filter(is_trial=True).exists()


@pytest.mark.parametrize("again", [False, True])
def test_an_archived_test_brings_its_version_back(owner: Any, workspace: Workspace, again: bool) -> None:
    run = tried(owner)
    shown = steps_of(Run.objects.get(id=run.id))
    source = run.version.source
    archive = write_archive(run.id)
    retention.remove_run(run.id, archive=archive)
    assert retention.forget_trials() == 1
    if again:
        tried(owner)

    back = restore_archive(archive.path, workspace)
    assert steps_of(back) == shown and back.version.is_trial and back.version.source == source
    assert runs_for(owner, blueprint="divide").filter(id=back.id).exists()
    assert retention.forget_trials() == 0
