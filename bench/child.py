"""The measured side of the line: a process that does what one line of JSON says and answers with one.

    → {"do": "chain", "runs": 10}
    ← {"ok": {…}, "cpu": 0.0612}

`cpu` is what this process used for the command, user and system, all its threads. Imports nothing but the
standard library: peers run it in an environment of their own.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any


def obey(verbs: Mapping[str, Callable[..., Any]]) -> None:
    """Answer commands until standard input closes. What libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        asked = json.loads(line)
        began = time.process_time()
        try:
            answer: dict[str, Any] = {"ok": verbs[asked.pop("do")](**asked)}
        except Exception as exc:
            traceback.print_exc()
            answer = {"error": f"{type(exc).__name__}: {exc}"}
        answer["cpu"] = time.process_time() - began
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
