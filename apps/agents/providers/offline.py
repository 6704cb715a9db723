"""The offline model: no network, no key, no guess. It ranks, quotes, copies and classifies by shared words.

For one request it does one of two things. While an allowed read tool has not been called yet and its required
arguments can be filled from what the step sees, it calls that tool, in listed order. Then it fills the
answer's schema from the evidence. It never calls a tool that writes. A required field without evidence stays
out, so the answer is malformed and says which. The same request always gives the same answer, marked
`offline`.
"""

from __future__ import annotations

import json

from apps.agents.core.arguments import fill_arguments
from apps.agents.core.compose import fill
from apps.agents.core.evidence import Evidence
from apps.agents.core.messages import ModelRequest, ModelResponse, ToolUse, estimated_usage

MODELS = ("extractive",)


class Offline:
    """One answer per request; asking again for a repair would give the same."""

    def complete(self, request: ModelRequest) -> ModelResponse:
        called = {use.name for message in request.messages for use in message.tool_uses}
        results = [(m.tool, m.result) for m in request.messages if m.role == "tool" and not m.failed]
        evidence = Evidence.of(request.prompt, request.material, results)
        for tool in request.tools:
            if tool.writes or tool.name in called:
                continue
            arguments = fill_arguments(tool.parameters, evidence)
            if arguments is not None:
                use = ToolUse(f"offline-{len(called) + 1}", tool.name, arguments)
                usage = estimated_usage(request, json.dumps(arguments))
                return ModelResponse(tool_uses=(use,), usage=usage, finish="tool_call", offline=True)
        filled = fill(request.schema or {"type": "string"}, evidence)
        text = filled.value if isinstance(filled.value, str) else json.dumps(filled.value, ensure_ascii=False)
        note = ""
        if filled.missing:
            note = f"The offline model found no evidence for {', '.join(filled.missing)}."
            text = text if request.schema else ""
        return ModelResponse(
            text=text, usage=estimated_usage(request, text), finish="stop", note=note, offline=True
        )
