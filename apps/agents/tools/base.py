"""What a tool is, what it is given, and how it says that it failed.

The gateway has checked everything before a tool runs; a tool only does its work. It says one of three things:

returns             done; the result is recorded as it is
StepError           nothing has happened; `permanent=True` when the arguments can never work
DefiniteFailure     the same, of a call to the outside (ENGINE rule 26); a write's StepError becomes one
anything else       nobody knows; `AmbiguousOutcome` says so in words
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from apps.blueprints.core.sample import sample
from apps.blueprints.core.tools import ToolSpec
from apps.ledger.core.states import EffectClass
from apps.runs.errors import DefiniteFailure, StepError
from apps.runs.ports import Answer, Context
from mirrorneuron.base.errors import MirrorNeuronError

__all__ = [
    "AmbiguousOutcome",
    "Answer",
    "Connection",
    "DefiniteFailure",
    "EffectClass",
    "FileRef",
    "StepError",
    "Tool",
    "ToolRun",
    "ToolSpec",
    "files_in",
    "sample",
]


class AmbiguousOutcome(MirrorNeuronError):
    """The call left the process and no answer tells whether it took effect; never repeated blindly."""

    code = "ambiguous_outcome"


@dataclass(frozen=True)
class FileRef:
    """A file of this run: `{id, name, sha256, media_type, size}` in values."""

    id: str
    name: str
    sha256: str = ""
    media_type: str = ""
    size: int = 0

    def as_value(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.name,
            "sha256": self.sha256,
            "media_type": self.media_type,
            "size": self.size,
        }


@dataclass(frozen=True)
class Connection:
    """Credentials of one outside service, alive only inside one call. Its text never shows a secret."""

    name: str
    kind: str
    fields: Mapping[str, Any] = field(repr=False)
    hosts: tuple[str, ...] = ()
    """The only hosts its fields may be sent to."""


def _no_connection(name: str) -> Connection:
    raise StepError(
        f'There is no connection "{name}" in this workspace.',
        permanent=True,
        next="Add it under Settings, Connections.",
    )


def _no_file(file_id: str) -> bytes:
    raise StepError(f"There is no file {file_id} in this run.", permanent=True)


@dataclass(frozen=True)
class ToolRun:
    """One call of one tool.

    key: the idempotency key of the effect; empty for reads. Equal keys mean the same call again.
    timeout_seconds: for the whole call; the engine has made sure that lease and attempt last longer.
    files: every file of the run. A tool reads no other file.
    names: what templates of declared tools may mention: inputs, run.
    connection: resolves credentials; raises StepError when there are none.
    """

    arguments: dict[str, Any]
    workspace_id: UUID
    run_id: UUID
    key: str = ""
    timeout_seconds: float = 30.0
    files: tuple[FileRef, ...] = ()
    read_file: Callable[[str], bytes] = field(default=_no_file, repr=False)
    connection: Callable[[str], Connection] = field(default=_no_connection, repr=False)
    names: Mapping[str, Any] = field(default_factory=dict, repr=False)
    started: float = field(default_factory=time.monotonic)

    @classmethod
    def of(
        cls,
        context: Context,
        arguments: dict[str, Any],
        *,
        key: str = "",
        timeout_seconds: float = 30.0,
    ) -> ToolRun:
        """The call as a step makes it: its run's files, its workspace's connections."""
        from apps.agents.tools.connections import connection_of

        names = context.names()
        return cls(
            arguments=arguments,
            workspace_id=context.workspace_id,
            run_id=context.run_id,
            key=key,
            timeout_seconds=timeout_seconds,
            files=tuple(files_in([names.get("inputs"), _made_by_tools(context, names)])),
            read_file=context.file_bytes,
            connection=lambda name: connection_of(context.workspace_id, name),
            names={"inputs": names.get("inputs"), "run": names.get("run")},
        )

    def seconds_left(self) -> float:
        """Of this call's time-out; 0 when it is used up."""
        return max(0.0, self.started + self.timeout_seconds - time.monotonic())

    def file(self, value: Any) -> FileRef:
        """The run's file that a value names: a file value, an id, or a file name that only one file has.

        Raises StepError (permanent) that lists the files there are.
        """
        wanted = value.get("id") or value.get("name") if isinstance(value, Mapping) else value
        found = [f for f in self.files if f.id == wanted] or [f for f in self.files if f.name == wanted]
        if len({f.id for f in found}) == 1:
            return found[0]
        listed = ", ".join(sorted({f'"{f.name}"' for f in self.files})[:20]) or "none"
        problem = "is the name of several files" if found else "is not a file of this run"
        raise StepError(
            f'"{str(wanted)[:200]}" {problem}. Files of this run: {listed}.',
            permanent=True,
            next="Give one of these files by its id." if found else "Give one of these files.",
        )

    def bytes_of(self, value: Any) -> tuple[FileRef, bytes]:
        """A file of the run with its content."""
        ref = self.file(value)
        return ref, self.read_file(ref.id)


@dataclass(frozen=True)
class Tool:
    """One tool as the gateway uses it.

    spec: what it needs and what it does; a function where that depends on the configuration.
    work: does it. A write gets its idempotency key in `ToolRun.key`.
    probe: asks whether the effect with `ToolRun.key` is there; only for effect class `probe`.
    describe: arguments → one sentence: what will happen, and whether it can be recalled.
    simulate: what a simulated run gets; a sample of the output schema when there is none.
    effect_for: arguments → effect class, where one tool both reads and writes (HTTP methods).
    """

    spec_source: ToolSpec | Callable[[], ToolSpec]
    work: Callable[[ToolRun], Any]
    probe: Callable[[ToolRun], Answer] | None = None
    describe_source: Callable[[Mapping[str, Any]], str] | None = None
    simulate_source: Callable[[ToolRun], Any] | None = None
    effect_for: Callable[[Mapping[str, Any]], EffectClass] | None = None

    @property
    def spec(self) -> ToolSpec:
        return self.spec_source if isinstance(self.spec_source, ToolSpec) else self.spec_source()

    def spec_for(self, arguments: Mapping[str, Any]) -> ToolSpec:
        """The spec of exactly this call; ask at call time, never keep it."""
        spec = self.spec
        return spec.model_copy(update={"effect": self.effect_for(arguments)}) if self.effect_for else spec

    def run(self, call: ToolRun) -> Any:
        """Do it. A write that refuses its arguments or its target has done nothing, and says so."""
        try:
            return self.work(call)
        except DefiniteFailure:
            raise
        except StepError as exc:
            if not self.spec_for(call.arguments).is_write:
                raise
            raise DefiniteFailure(
                exc.message,
                permanent=exc.permanent,
                retry_after=exc.retry_after,
                code=exc.code,
                fields=exc.fields,
                next=exc.next,
                **exc.attributes,
            ) from exc.__cause__

    def describe(self, arguments: Mapping[str, Any]) -> str:
        """What will happen, one sentence for the person who decides. Never raises."""
        spec = self.spec_for(arguments)
        if self.describe_source is not None:
            try:
                return self.describe_source(arguments)
            except (KeyError, TypeError, ValueError, AttributeError):
                pass  # arguments that do not fit the schema are refused later, with a better message
        ending = "" if not spec.is_write or spec.reversible else " It cannot be recalled."
        return f"{spec.description.rstrip('.')}.{ending}"

    def simulate(self, call: ToolRun) -> Any:
        """What a simulated run gets; no byte leaves."""
        if self.simulate_source is not None:
            return self.simulate_source(call)
        return sample(self.spec.output or {})

    def with_spec(self, **changes: Any) -> Tool:
        return replace(self, spec_source=self.spec.model_copy(update=changes))


def _made_by_tools(context: Context, names: Mapping[str, Any]) -> list[Any]:
    """Outputs of tool steps: a model's output may only look like a file of this run."""
    steps = names.get("steps") or {}
    made = [n.id for n in context.document.graph.nodes if n.kind == "tool" and n.id in steps]
    return [steps[i].get("output") for i in made if isinstance(steps[i], Mapping)]


def files_in(value: Any) -> Iterator[FileRef]:
    """Every file value inside a JSON value, each id once, in order."""
    seen: set[str] = set()
    stack = [value]
    while stack:
        item = stack.pop(0)
        if isinstance(item, Mapping):
            file_id, sha256 = item.get("id"), item.get("sha256")
            if isinstance(file_id, str) and isinstance(sha256, str) and isinstance(item.get("name"), str):
                if file_id not in seen:
                    seen.add(file_id)
                    size = item.get("size")
                    yield FileRef(
                        id=file_id,
                        name=item["name"],
                        sha256=sha256,
                        media_type=str(item.get("media_type") or ""),
                        size=size if isinstance(size, int) else 0,
                    )
            else:
                stack.extend(item.values())
        elif isinstance(item, (list, tuple)):
            stack.extend(item)
