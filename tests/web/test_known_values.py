"""What an expression gives is shown inside maps and loops too: of the first item, of the first round."""

from __future__ import annotations

from html import unescape
from typing import Any

import pytest

from apps.blueprints import draft_texts, drafts, selectors, services
from apps.blueprints.core.document import Document
from apps.blueprints.core.trial import Given
from apps.blueprints.pins import set_pins
from apps.runs import services as runs
from apps.workspaces.models import User
from tests.runs.engine import work_all
from tests.web.conftest import ClientOf

pytestmark = pytest.mark.django_db(transaction=True)
SOURCE = """\
apiVersion: mirrorneuron/v1
kind: Blueprint
metadata: {name: bodies, title: Bodies}
card: {purpose: Tests, must_never: [guess], business_owner: A, technical_owner: A, model_steward: A}
contract:
  goal: Show values.
  inputs: {type: object, properties: {all: {type: array}}}
graph:
  nodes:
    - {id: before, kind: transform, output: "outer"}
    - {id: same, kind: transform, output: "outer same"}
    - id: each
      kind: map
      items: "{{ inputs.all }}"
      output: "{{ steps.twice.output + 1 }}"
      body:
        nodes:
          - {id: same, kind: transform, output: "{{ item }}"}
          - {id: twice, kind: transform, output: "{{ steps.same.output * 2 + index }}"}
          - {id: around, kind: transform, output: "{{ steps.before.output + '!' }}"}
          - id: again
            kind: loop
            max_rounds: 2
            condition: steps.count.output > 8
            body:
              nodes:
                - {id: count, kind: transform, output: "{{ item + round }}"}
                - {id: last, kind: transform, output: "{{ previous }}"}
              edges:
                - {from: count, to: last}
        edges:
          - {from: same, to: twice}
          - {from: twice, to: around}
          - {from: around, to: again}
    - {id: after, kind: transform, output: "{{ steps.each.output }}"}
  edges:
    - {from: before, to: each}
    - {from: same, to: each}
    - {from: each, to: after}
"""


@pytest.fixture
def bodies(alice: User, principal: Any) -> Any:
    owner = principal(alice)
    services.import_blueprint(owner, SOURCE)
    return owner


def shown(client: Any, node: str) -> str:
    answer = client.get(f"/blueprints/bodies/edit/inspector?node={node}")
    assert answer.status_code == 200
    return unescape(answer.content.decode())


def test_bodies_show_the_first_item_and_the_first_round(bodies: Any, browser: ClientOf, alice: User) -> None:
    runs.start_run(bodies, selectors.version_for(bodies, "bodies"), {"all": [5, 6]})
    work_all()
    client = browser(alice)

    assert "= 5<" in shown(client, "each/same")
    assert "= 10<" in shown(client, "each/twice")
    assert "= outer!<" in shown(client, "each/around")
    assert "= 6<" in shown(client, "each/again/count")
    assert "= null<" in shown(client, "each/again/last")
    assert "first item, first round" in shown(client, "each/again/last")
    each = shown(client, "each")

    assert "= [5, 6]<" in each and "= 11<" in each
    assert "= false<" in shown(client, "each/again")


def test_without_a_run_bodies_show_what_is_pinned(bodies: Any, browser: ClientOf, alice: User) -> None:
    client = browser(alice)
    assert 'data-testid="preview"' not in shown(client, "each/twice")
    document = Document.model_validate(draft_texts.seen(drafts.draft_for(bodies, "bodies")).source.data)
    set_pins(bodies, "bodies", document, {"each/same": Given(4, ""), "before": Given("pinned", "")})
    assert "= 8<" in shown(client, "each/twice")
    assert "= pinned!<" in shown(client, "each/around")
    assert "what is pinned, first item" in shown(client, "each/around")


JOINED = """\
apiVersion: mirrorneuron/v1
kind: Blueprint
metadata: {name: joined, title: Joined}
card: {purpose: Tests, must_never: [guess], business_owner: A, technical_owner: A, model_steward: A}
contract:
  goal: Show values.
  inputs: {type: object, properties: {all: {type: array}}}
  success_criteria: {output: [{text: all are there, check: expression, args: {that: size(inputs.all) == 2}}]}
  boundaries:
    allowed_tools: [search_documents]
    forbidden_actions: [{name: none of it, when: 'tool == "send_email"'}]
graph:
  nodes:
    - {id: one, kind: transform, output: 3}
    - {id: two, kind: transform, output: 4}
    - {id: both, kind: aggregator, merge: results.one + results.two}
    - id: each
      kind: map
      items: inputs.all
      merge: size(results) * 100 + results[0]
      body: {nodes: [{id: same, kind: transform, output: "{{ item * 2 }}"}], edges: []}
    - id: again
      kind: loop
      max_rounds: 3
      condition: output > 6
      body: {nodes: [{id: more, kind: transform, output: "{{ 6 + round }}"}], edges: []}
    - id: look
      kind: sensor
      when: "false"
      poll: {tool: search_documents, with: {query: news}}
      every: 5s
      due: 1h
      condition: size(output.passages) > 0
  edges:
    - {from: one, to: both}
    - {from: two, to: both}
    - {from: both, to: each, when: output > 6}
    - {from: each, to: again}
    - {from: again, to: look}
outputs: {sum: "{{ steps.both.output }}"}
"""


@pytest.fixture
def joined(alice: User, principal: Any, browser: ClientOf) -> Any:
    """`joined(query)`: the inspector of what the query names."""
    services.import_blueprint(principal(alice), JOINED)
    client = browser(alice)

    def look(query: str) -> str:
        answer = client.get(f"/blueprints/joined/edit/inspector?{query}")
        assert answer.status_code == 200
        return unescape(answer.content.decode())

    return look


def test_fields_that_need_no_braces_show_what_they_give(joined: Any, alice: User, principal: Any) -> None:
    looks = [
        "node=each",
        "node=both",
        "edge=%7Cboth.done%7Ceach%7C0",
        "node=again",
        "part=outputs",
        "part=contract",
    ]
    assert not any('data-testid="preview"' in joined(look) for look in looks), "nothing has happened yet"
    owner = principal(alice)
    runs.start_run(owner, selectors.version_for(owner, "joined"), {"all": [5, 6]})
    work_all()
    each = joined("node=each")
    assert "= [5, 6]<" in each and "= 210<" in each
    assert 'data-expression="bare"' in each
    assert "= 7<" in joined("node=both")
    assert "= true<" in joined("edge=%7Cboth.done%7Ceach%7C0")
    assert "= true<" in joined("node=again")
    assert "= 7<" in joined("part=outputs")
    contract = joined("part=contract")
    assert "= true<" in contract and contract.count('data-testid="preview"') == 1


def test_a_pin_stands_in_for_what_a_join_gets(joined: Any, alice: User, principal: Any) -> None:
    owner = principal(alice)
    document = Document.model_validate(draft_texts.seen(drafts.draft_for(owner, "joined")).source.data)
    assert 'data-testid="preview"' not in joined("node=look")
    seen = {"by": "poll", "body": {"passages": []}}
    given = {"one": Given(10, ""), "two": Given(20, ""), "both": Given(5, ""), "look": Given(seen, "")}
    set_pins(owner, "joined", document, given)
    assert "= 30<" in joined("node=both")
    assert "= false<" in joined("edge=%7Cboth.done%7Ceach%7C0")
    assert "= false<" in joined("node=look")
