"""Problems that several rules report in the same words."""

from __future__ import annotations

from apps.blueprints.core.document import Node
from apps.blueprints.core.problems import Path
from apps.blueprints.core.rules.case import Case


def missing(case: Case, node: Node, path: Path, field: str, example: str) -> None:
    case.error(
        path,
        "missing_field",
        f'{node.kind.capitalize()} "{node.id}" has no {field}.',
        f"Add {example}.",
        node=node.id,
        lacks=(field,) if field.isidentifier() else (),
    )
