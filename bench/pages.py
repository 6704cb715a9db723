"""Data and requests for W6, inside the measured process: finished runs, a token, what the page reads."""

from __future__ import annotations

import copy
import time
from typing import Any

BATCH = 500


def prepare(engine: Any, runs: int) -> dict[str, Any]:
    """One run of 100 steps, really run; many finished runs, copied from one that really ran; a token."""
    from apps.runs.models import Run, Step
    from apps.workspaces.services import create_token
    from bench import documents, house
    from mirrorneuron.base.ids import uuid7

    long = engine.house.start(documents.chain("pure", 100))
    engine.ear.wait(long, 60)
    short = engine.house.start(documents.chain("pure", 1))
    end = time.monotonic() + 60
    while house.look(short)[0] != "succeeded" and time.monotonic() < end:
        time.sleep(0.01)
    run, step = Run.objects.get(id=short), Step.objects.get(run_id=short)
    for start in range(0, runs, BATCH):
        copies = []
        for _ in range(min(BATCH, runs - start)):
            one = copy.copy(run)
            one.pk = uuid7()
            copies.append(one)
        Run.objects.bulk_create(copies)
        steps = []
        for one in copies:
            mine = copy.copy(step)
            mine.pk, mine.run_id = None, one.pk
            steps.append(mine)
        Step.objects.bulk_create(steps)
    analyse()
    _, token = create_token(engine.house.principal, "bench")
    return {"run": str(long), "token": token, "session": session()}


def analyse() -> None:
    """Let the planner know what it has, as autovacuum would have by the time anybody looks."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def page_data(principal: Any, run_id: str, rounds: int) -> dict[str, Any]:
    """What the page of a run reads and works out, without drawing it: seconds of each round."""
    from apps.runs import selectors
    from apps.web.run_page import RunPage

    seconds = []
    for _ in range(rounds + 3):
        began = time.perf_counter()
        page = RunPage(principal, selectors.run_for(principal, run_id))
        _ = page.rows, page.step, page.next_steps, page.costs, page.effects, page.criteria, page.states
        seconds.append(time.perf_counter() - began)
    return {"seconds": seconds[3:]}


def queries(token: str, addresses: dict[str, str]) -> dict[str, Any]:
    """Statements per request, sign-in included, counted in this process by Django."""
    from django.contrib.auth import get_user_model
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    user = get_user_model().objects.first()
    found = {}
    for name, address in addresses.items():
        client = Client(HTTP_HOST="127.0.0.1")
        headers = {"Authorization": f"Bearer {token}"} if address.startswith("/api/") else {}
        if not headers:
            client.force_login(user)
        client.get(address, headers=headers)
        with CaptureQueriesContext(connection) as captured:
            answer = client.get(address, headers=headers)
        if answer.status_code != 200:
            raise RuntimeError(f"{address} answered {answer.status_code}")
        found[name] = len(captured)
    return found


def session() -> str:
    """The cookie of somebody who is signed in."""
    from django.contrib.auth import get_user_model
    from django.test import Client

    client = Client()
    client.force_login(get_user_model().objects.first())
    return client.cookies["sessionid"].value
