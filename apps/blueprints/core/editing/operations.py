"""What may be done to a draft, as types: the words that clients, the log and the history share.

Paths of nodes are ids joined by `/` (`each/score` stands in the body of `each`); a scope is the path of a
container, empty for the graph itself. A missing `old` or `new` means a value that is not there.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from apps.blueprints.core.document import Identifier

Key = Annotated[str, Field(max_length=200)] | Annotated[int, Field(ge=0, le=100_000)]
NodePath = Annotated[str, Field(max_length=600)]
ValuePath = Annotated[list[Key], Field(min_length=1, max_length=40)]


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True, frozen=True)


class Place(Part):
    x: float = Field(ge=-1_000_000, le=1_000_000)
    y: float = Field(ge=-1_000_000, le=1_000_000)


class EdgeEnds(Part):
    from_: str = Field(alias="from", max_length=200)
    """`node` or `node.port`, as the edge is written."""
    to: str = Field(max_length=200)


class Operation(Part):
    op_id: UUID
    """Made by the client; sent twice, it is done once."""


class AddNode(Operation):
    kind: Literal["add_node"]
    scope: NodePath = ""
    node: dict[str, Any]
    position: Place | None = None
    edge: dict[str, Any] | None = None
    edges: list[dict[str, Any]] = []
    split: EdgeEnds | None = None
    """Insert the node on this edge."""


class RemoveNode(Operation):
    kind: Literal["remove_node"]
    node: NodePath


class MoveNodes(Operation):
    kind: Literal["move_nodes"]
    positions: dict[NodePath, Place]


class SetConfig(Operation):
    kind: Literal["set_config"]
    node: NodePath
    path: ValuePath
    old: Any = None
    new: Any = None


class Rename(Operation):
    kind: Literal["rename"]
    node: NodePath
    to: Identifier


class AddEdge(Operation):
    kind: Literal["add_edge"]
    scope: NodePath = ""
    edge: dict[str, Any]


class RemoveEdge(Operation):
    kind: Literal["remove_edge"]
    scope: NodePath = ""
    edge: EdgeEnds
    at: int | None = Field(None, ge=0)
    """Which one of several alike, counted from 0."""


class SetEdge(Operation):
    kind: Literal["set_edge"]
    scope: NodePath = ""
    edge: EdgeEnds
    at: int | None = Field(None, ge=0)
    path: ValuePath
    old: Any = None
    new: Any = None


class GroupNodes(Operation):
    kind: Literal["group"]
    id: Identifier | None = None
    title: str = Field(max_length=500)
    description: str = ""
    nodes: list[NodePath]


class Ungroup(Operation):
    kind: Literal["ungroup"]
    id: str


class SetContract(Operation):
    kind: Literal["set_contract"]
    path: ValuePath
    old: Any = None
    new: Any = None


class SetLayout(Operation):
    kind: Literal["set_layout"]
    path: ValuePath
    old: Any = None
    new: Any = None


class Paste(Operation):
    kind: Literal["paste"]
    scope: NodePath = ""
    text: str
    at: Place | None = None
    ids: dict[str, str] | None = None
    """Old id → the id it got; said by the answer."""


class SetSource(Operation):
    kind: Literal["set_source"]
    old_hash: str = ""
    """SHA-256 in hex of the text that was changed; empty: whatever it was."""
    text: str


AnyOperation = Annotated[
    AddNode | RemoveNode | MoveNodes | SetConfig | Rename | AddEdge | RemoveEdge | SetEdge | GroupNodes
    | Ungroup | SetContract | SetLayout | Paste | SetSource,
    Field(discriminator="kind"),
]  # fmt: skip
ADAPTER: TypeAdapter[AnyOperation] = TypeAdapter(AnyOperation)
KINDS = (
    "add_node", "remove_node", "move_nodes", "set_config", "rename", "add_edge", "remove_edge", "set_edge",
    "group", "ungroup", "set_contract", "set_layout", "paste", "set_source",
)  # fmt: skip


def operation(values: Any) -> AnyOperation:
    """Raises pydantic's ValidationError for what is no operation."""
    return ADAPTER.validate_python(values)


def payload(op: AnyOperation) -> dict[str, Any]:
    """An operation as the log keeps it, without its id and kind."""
    values = op.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return {k: v for k, v in values.items() if k not in ("op_id", "kind")}
