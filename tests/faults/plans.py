"""Blueprints that fault tests run: every kind of step a crash can hit, against the counting remote."""

from __future__ import annotations

import textwrap


def _blueprint(name: str, tools: str, graph: str, extra: str = "") -> str:
    return (
        textwrap.dedent(
            f"""\
            apiVersion: mirrorneuron/v1
            kind: Blueprint
            metadata: {{name: {name}, title: {name}}}
            card:
              purpose: Fault tests.
              must_never: [act twice]
              business_owner: tests
              technical_owner: tests
              model_steward: tests
            contract:
              goal: Finish, once.
              inputs: {{type: object, required: [reference], properties: {{reference: {{type: string}}}}}}
              boundaries: {{allowed_tools: [charge, pay]}}
              recovery_policy: {{retry_budget: 3}}
            """
        )
        + textwrap.dedent(extra)
        + textwrap.dedent(tools)
        + textwrap.dedent(graph)
    )


def http_tool(name: str, url: str, effect: str, *, probe: str = "", more: str = "") -> str:
    """One declared http tool; `probe` is the URL that answers {"present": bool}."""
    asks = f'    probe: {{method: GET, url: "{probe}", present: "body.present"}}\n' if probe else ""
    return (
        f"  {name}:\n"
        f"    kind: http\n"
        f"    description: Tell the remote service to {name}.\n"
        f"    parameters:\n"
        f"      {{type: object, required: [reference], properties: {{reference: {{type: string}}}}}}\n"
        f"    method: POST\n"
        f'    url: "{url}"\n'
        f"    effect: {effect}\n"
        f"    open_world: false\n"
        f"{asks}{more}"
    )


def full(url: str, model: str) -> str:
    """A model step beside a read (so that a doorbell rings), an effect, a question, a second effect."""
    look = (
        "  look:\n"
        "    kind: http\n"
        "    description: Ask the remote service whether it knows the order.\n"
        "    parameters:\n"
        "      {type: object, required: [reference], properties: {reference: {type: string}}}\n"
        f'    url: "{url}/probe/{{{{ args.reference }}}}"\n'
        "    open_world: false\n"
    )
    return _blueprint(
        "fault_full",
        "tools:\n"
        + look
        + http_tool("charge", f"{url}/keyed/charge", "keyed", more="    timeout: 5s\n")
        + http_tool("pay", f"{url}/keyed/pay", "keyed", more="    timeout: 5s\n"),
        """\
        graph:
          nodes:
            - {id: begin, kind: transform, output: {reference: "{{ inputs.reference }}"}}
            - {id: aside, kind: tool, tool: look, with: {reference: "{{ inputs.reference }}"}}
            - id: think
              kind: agent
              agent: thinker
              prompt: "Say something about {{ inputs.reference }}."
              output: {type: object, required: [text], properties: {text: {type: string}}}
            - {id: charge, kind: tool, tool: charge, tier: 2, with: {reference: "{{ inputs.reference }}"}}
            - id: ask
              kind: approval
              title: Pay?
              proposes: pay
              with: {reference: "{{ inputs.reference }}"}
            - {id: pay, kind: tool, tool: pay}
            - {id: finish, kind: transform, output: {said: "{{ steps.think.output.text }}"}}
          edges:
            - {from: begin, to: think}
            - {from: begin, to: aside}
            - {from: think, to: charge}
            - {from: aside, to: charge}
            - {from: charge, to: ask}
            - {from: ask.approved, to: pay}
            - {from: pay, to: finish}
        outputs: {said: "{{ steps.finish.output.said }}"}
        """,
        f"""\
        models: {{quick: {{use: "{model}"}}}}
        agents: {{thinker: {{model: quick, instructions: Be brief., tools: []}}}}
        """,
    ).replace("[charge, pay]", "[charge, pay, look]")


def one_effect(name: str, url: str, effect: str, *, probe: str = "", more: str = "    timeout: 1s\n") -> str:
    """begin → charge → finish, with one effect of the given class."""
    return _blueprint(
        name,
        "tools:\n" + http_tool("charge", url, effect, probe=probe, more=more),
        """\
        graph:
          nodes:
            - {id: begin, kind: transform, output: {reference: "{{ inputs.reference }}"}}
            - {id: charge, kind: tool, tool: charge, tier: 2, with: {reference: "{{ inputs.reference }}"}}
            - {id: finish, kind: transform, output: {done: true}}
          edges:
            - {from: begin, to: charge}
            - {from: charge, to: finish}
        outputs: {done: "{{ steps.finish.output.done }}"}
        """,
    ).replace("[charge, pay]", "[charge]")


def question_only() -> str:
    """begin → ask → nap → finish: a run that waits for a person, then needs a worker, and touches nothing."""
    return _blueprint(
        "fault_question",
        "",
        """\
        graph:
          nodes:
            - {id: begin, kind: transform, output: {reference: "{{ inputs.reference }}"}}
            - {id: ask, kind: approval, title: Go on?, with: {reference: "{{ inputs.reference }}"}}
            - {id: nap, kind: timer, duration: 0s}
            - {id: finish, kind: transform, output: {done: true}}
          edges:
            - {from: begin, to: ask}
            - {from: ask.approved, to: nap}
            - {from: nap, to: finish}
        outputs: {done: "{{ steps.finish.output.done }}"}
        """,
    ).replace("[charge, pay]", "[]")


def timers() -> str:
    """A chain with a durable timer in the middle."""
    return _blueprint(
        "fault_timer",
        "",
        """\
        graph:
          nodes:
            - {id: begin, kind: transform, output: 1}
            - {id: pause, kind: timer, duration: 1s}
            - {id: finish, kind: transform, output: {done: true}}
          edges:
            - {from: begin, to: pause}
            - {from: pause, to: finish}
        outputs: {done: "{{ steps.finish.output.done }}"}
        """,
    ).replace("[charge, pay]", "[]")
