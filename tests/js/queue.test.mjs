import assert from "node:assert/strict";
import { test } from "node:test";
import { makeQueue, statusWords } from "../../static/src/graph/core/queue.js";

const ids = () => {
  let count = 0;
  return () => `op${(count += 1)}`;
};
const remove = (node) => ({ kind: "remove_node", node });
const move = (path, x) => ({ kind: "move_nodes", positions: { [path]: { x, y: 0 } } });

test("batches go one at a time and in order", () => {
  const queue = makeQueue({ newId: ids() });
  queue.add([remove("a")]);
  queue.add([remove("b")]);
  assert.equal(queue.next().ops[0].node, "a");
  assert.equal(queue.next(), null);
  queue.done();
  assert.equal(queue.next().ops[0].node, "b");
});

test("a batch that was not answered goes again under the same ids, after ever longer pauses", () => {
  const queue = makeQueue({ newId: ids() });
  queue.add([remove("a")]);
  const sent = queue.next();
  const pauses = [queue.failed(1)];
  for (let i = 0; i < 9; i += 1) {
    assert.deepEqual(queue.next(), sent);
    pauses.push(queue.failed(1));
  }
  assert.deepEqual(pauses.slice(0, 4), [500, 1000, 2000, 4000]);
  assert.ok(pauses.every((pause) => pause <= 15000));
  assert.equal(queue.isOffline(), true);
});

test("moves that have not left yet become one, and never join a batch on its way", () => {
  const queue = makeQueue({ newId: ids() });
  queue.add([move("a", 1)]);
  queue.add([move("b", 2)]);
  queue.add([move("a", 3)]);
  assert.equal(queue.count(), 1);
  const sent = queue.next();
  assert.deepEqual(sent.ops[0].positions, { a: { x: 3, y: 0 }, b: { x: 2, y: 0 } });
  queue.add([move("a", 4)]);
  assert.equal(queue.count(), 2);
  assert.deepEqual(sent.ops[0].positions.a, { x: 3, y: 0 });
});

test("a batch that may have arrived is never changed", () => {
  const queue = makeQueue({ newId: ids() });
  queue.add([move("a", 1)]);
  const sent = queue.next();
  queue.failed(0);
  queue.add([move("a", 2)]);
  assert.deepEqual(sent.ops[0].positions.a, { x: 1, y: 0 });
  assert.equal(queue.count(), 2);
});

test("what was refused is given up, and the rest of its batch goes again", () => {
  const queue = makeQueue({ newId: ids() });
  const [, second] = queue.add([remove("a"), remove("b")]);
  queue.next();
  assert.deepEqual(queue.refused(second).map((op) => op.node), ["b"]);
  assert.deepEqual(queue.next().ops.map((op) => op.node), ["a"]);
  assert.deepEqual(queue.refused().map((op) => op.node), ["a"]);
  assert.equal(queue.isEmpty(), true);
});

test("what was kept by an earlier page is sent first, with its ids", () => {
  let kept = [];
  const one = makeQueue({ newId: ids(), keep: (batches) => (kept = structuredClone(batches)) });
  one.add([remove("a")], "group");
  one.next();
  const other = makeQueue({ kept, newId: ids() });
  other.add([remove("b")]);
  const sent = other.next();
  assert.deepEqual([sent.ops[0].op_id, sent.ops[0].node, sent.undo_group], ["op1", "a", "group"]);
  one.done();
  assert.deepEqual(kept, []);
});

test("a batch an earlier page may have sent takes no more moves in", () => {
  const queue = makeQueue({ kept: [{ ops: [{ ...move("a", 1), op_id: "old" }] }], newId: ids() });
  queue.add([move("a", 2)]);
  assert.equal(queue.count(), 2);
});

test("the header says where the changes are", () => {
  const queue = makeQueue({ newId: ids() });
  assert.equal(statusWords(queue, { version: 7 }), "Draft 7 · saved");
  queue.add([remove("a")]);
  assert.equal(statusWords(queue), "Saving…");
  queue.next();
  queue.failed(0);
  assert.equal(statusWords(queue), "Offline, 1 change kept");
  queue.next();
  queue.failed(0, "The disk is full.");
  assert.equal(statusWords(queue), "Not saved. The disk is full. 1 change kept here, tried again");
  queue.next();
  queue.done();
  assert.equal(statusWords(queue), "Saved");
});
