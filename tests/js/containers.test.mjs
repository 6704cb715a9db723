import assert from "node:assert/strict";
import { test } from "node:test";
import { fitted, placing } from "../../static/src/graph/core/containers.js";
import { foretell, moved } from "../../static/src/graph/core/optimistic.js";
import { view } from "./graph.mjs";

/** A map that holds two steps, drawn around them as the server does; nothing has been placed by hand. */
function packed() {
  const plain = view();
  for (const node of Object.values(plain.nodes)) node.placed = false;
  return { ...plain, nodes: { ...plain.nodes, ...fitted(plain, ["each"]) } };
}

const box = ({ x, y, w, h }) => [x, y, w, h];
const send = (shown, positions) => {
  const stored = placing(shown, positions, moved);
  return { stored, after: foretell(shown, [{ kind: "move_nodes", positions: stored }]) };
};

test("a container is drawn around what it holds", () => {
  assert.deepEqual(box(packed().nodes.each), [722, -6, 444, 138]);
});

test("a step put farther right or down makes its container larger, and nothing else moves", () => {
  const shown = packed();
  const { stored, after } = send(shown, { "each/note": { x: 1000, y: 90 } });
  assert.deepEqual(stored["each/score"], { x: 740, y: 50 });
  assert.deepEqual(stored.each, { x: 722, y: -6 });
  assert.deepEqual(box(after.nodes.each), [722, -6, 484, 178]);
  for (const path of ["read", "judge", "each/score"]) assert.deepEqual(box(after.nodes[path]), box(shown.nodes[path]));
});

test("a step moved within its container stores nothing outside of it", () => {
  const wide = send(packed(), { "each/note": { x: 1000, y: 90 } }).after;
  const third = { ...wide.nodes["each/note"], path: "each/third", id: "third", x: 800, y: 60 };
  const { stored } = send({ ...wide, nodes: { ...wide.nodes, "each/third": third } }, { "each/third": { x: 820, y: 70 } });
  assert.deepEqual(Object.keys(stored).toSorted(), ["each/note", "each/score", "each/third"]);
});

test("what a container grows over makes room, and what it does not reach stays", () => {
  const shown = packed();
  const right = { ...shown.nodes.read, path: "right", id: "right", x: 1190, y: 20 };
  const above = { ...right, path: "above", id: "above", x: 400, y: -300 };
  const { after } = send({ ...shown, nodes: { ...shown.nodes, right, above } }, { "each/note": { x: 1000, y: 50 } });
  assert.equal(after.nodes.right.x, 1230);
  assert.equal(after.nodes.above.x, 400);
});

test("a step put farther left or up moves where its container begins, and nothing else", () => {
  const shown = packed();
  const { stored, after } = send(shown, { "each/score": { x: 700, y: 20 } });
  assert.deepEqual(stored.each, { x: 682, y: -36 });
  assert.deepEqual(stored["each/note"], { x: 960, y: 50 });
  assert.deepEqual([after.nodes["each/note"].x, after.nodes["each/note"].y], [960, 50]);
  assert.deepEqual(box(after.nodes.each), [682, -36, 484, 168]);
  // The container is placed now, so what stands beside it is too.
  assert.ok(stored.read && stored.judge);
});

test("a step moved away from the side its container begins at lets it begin there", () => {
  const { after } = send(packed(), { "each/score": { x: 800, y: 50 } });
  assert.deepEqual([after.nodes["each/score"].x, after.nodes["each/note"].x, after.nodes.each.x], [800, 960, 782]);
});

test("containers in containers grow with what they hold", () => {
  const plain = packed();
  const outer = { ...plain.nodes.each, path: "all", id: "all" };
  const nested = Object.fromEntries(Object.values(plain.nodes).filter((n) => n.path.startsWith("each")).map((n) => {
    const path = `all/${n.path}`;
    return [path, { ...n, path, scope: n.scope ? "all/each" : "all" }];
  }));
  const shown = { ...plain, nodes: { all: outer, ...nested }, edges: {} };
  const ready = { ...shown, nodes: { ...shown.nodes, ...fitted(shown, ["all"]) } };
  const { stored, after } = send(ready, { "all/each/score": { x: 640, y: 50 } });
  assert.deepEqual(Object.keys(stored).toSorted(), ["all", "all/each", "all/each/note", "all/each/score"]);
  assert.deepEqual([after.nodes["all/each"].x, after.nodes.all.x], [622, 604]);
});

test("a moved container takes its content along and stores only itself and what stands beside it", () => {
  const { stored, after } = send(packed(), { each: { x: 822, y: -6 } });
  assert.equal("each/score" in stored, false);
  assert.equal(after.nodes["each/score"].x, 840);
});
