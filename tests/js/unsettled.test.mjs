import assert from "node:assert/strict";
import { test } from "node:test";
import { restOfMove, unsettled } from "../../static/src/graph/core/unsettled.js";
import { view } from "./graph.mjs";

const bob = { actor: { name: "bob" } };
const titled = (node, value, old) => ({ op_id: "1", kind: "set_config", node, path: ["title"], new: value, ...(old ? { old } : {}) });
const conflict = (theirs, mine) => ({ op_id: "1", message: "has been changed meanwhile.", theirs, mine });

test("both values are said, and keeping mine answers theirs", () => {
  const problem = { message: "", conflict: conflict("Theirs", "Mine"), ops_since: [{ ...bob, ...titled("bad", "Theirs"), op_id: "0" }] };
  assert.deepEqual(unsettled(view(), titled("bad", "Mine", "Sorry"), problem), {
    id: "1", words: "bob changed the title of “Sorry” to “Theirs”. Keep yours, “Mine”?", keep: "Keep mine", leave: "Take theirs",
    operation: { kind: "set_config", node: "bad", path: ["title"], new: "Mine", old: "Theirs" },
  });
});

test("what they took away is nothing, and mine is put there anew", () => {
  const found = unsettled(view(), titled("bad", "Mine", "Sorry"), { conflict: conflict(null, "Mine"), ops_since: [] });
  assert.equal(found.words, "Somebody changed the title of “Sorry” to nothing. Keep yours, “Mine”?");
  assert.deepEqual(found.operation, { kind: "set_config", node: "bad", path: ["title"], new: "Mine" });
});

test("a change of what is gone is said in full; of what has another name it can be kept", () => {
  const problem = (since) => ({ message: "There is no node.", conflict: conflict(null, null), ops_since: since });
  const lost = unsettled(view(), titled("gone", "Mine"), problem([{ ...bob, kind: "remove_node", node: "gone" }]));
  assert.deepEqual([lost.words, lost.operation], ["bob removed “gone”; your change of the title of “gone” to “Mine” has no place any more.", null]);
  const moved = unsettled(view(), titled("gone", "Mine"), problem([{ ...bob, kind: "rename", node: "gone", to: "bad" }]));
  assert.equal(moved.operation.node, "bad");
});

test("a step whose name is taken can be added under another one, its edge with it", () => {
  const add = { op_id: "1", kind: "add_node", scope: "", node: { id: "bad", kind: "tool", title: "Say no" }, edge: { from: "judge", to: "bad" } };
  const found = unsettled(view(), add, { message: "", conflict: conflict("bad", "bad"), ops_since: [] });
  assert.deepEqual([found.operation.node.id, found.operation.edge], ["bad_2", { from: "judge", to: "bad_2" }]);
  assert.equal(found.keep, "Add mine too");
});

test("what holds nothing of the person's is not kept", () => {
  for (const kind of ["move_nodes", "remove_node", "add_edge"]) assert.equal(unsettled(view(), { op_id: "1", kind }, { message: "No." }), null);
});

test("a change refused for another reason says it with the value", () => {
  const found = unsettled(view(), titled("bad", "Mine"), { message: "You may not edit." });
  assert.deepEqual([found.words, found.operation], ["Your change of the title of “bad” to “Mine” was not taken. You may not edit.", null]);
});

test("a move goes on without what is gone", () => {
  const move = { kind: "move_nodes", positions: { bad: { x: 1, y: 2 }, gone: { x: 3, y: 4 } } };
  assert.deepEqual(restOfMove(view(), move), { kind: "move_nodes", positions: { bad: { x: 1, y: 2 } } });
  assert.equal(restOfMove(view(), { kind: "move_nodes", positions: { bad: { x: 1, y: 2 } } }), null);
});
