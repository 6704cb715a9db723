import assert from "node:assert/strict";
import { test } from "node:test";
import { foretell } from "../../static/src/graph/core/optimistic.js";
import { view } from "./graph.mjs";

const edge = (shown, from, to) => Object.values(shown.edges).find((e) => e.from === from && e.to === to);

test("a moved container takes its content and the lines in it along", () => {
  const before = view();
  const after = foretell(before, [{ kind: "move_nodes", positions: { each: { x: 820, y: 10 } } }]);
  assert.deepEqual([after.nodes["each/score"].x, after.nodes["each/score"].y], [840, 60]);
  const [was, is] = [edge(before, "each/score", "each/note"), edge(after, "each/score", "each/note")];
  assert.deepEqual(is.points, was.points.map(([x, y]) => [x + 100, y + 10]));
});

test("a line follows the end that moved and goes below when it has to go back", () => {
  const after = foretell(view(), [{ kind: "move_nodes", positions: { judge: { x: 700, y: 0 } } }]);
  assert.deepEqual(edge(after, "read", "judge").points.at(-1), [700, 32]);
  assert.equal(edge(after, "judge", "good").back, true);
  assert.ok(edge(after, "judge", "good").points.some(([, y]) => y > 64));
});

test("a removed node takes its edges and its content", () => {
  const after = foretell(view(), [{ kind: "remove_node", node: "each" }]);
  assert.deepEqual(Object.keys(after.nodes).filter((path) => path.startsWith("each")), []);
  assert.equal(edge(after, "good", "each"), undefined);
  assert.equal(edge(after, "each/score", "each/note"), undefined);
});

test("an edge is found by what the document calls it", () => {
  const after = foretell(view(), [{ kind: "remove_edge", scope: "", edge: { from: "judge", to: "bad" } }]);
  assert.equal(edge(after, "judge", "bad"), undefined);
  assert.ok(edge(after, "judge", "good"));
});

test("a new edge is drawn at once, and a title changes at once", () => {
  const after = foretell(view(), [
    { kind: "add_edge", scope: "", edge: { from: "read.failed", to: "bad" } },
    { kind: "set_config", node: "bad", path: ["title"], old: "bad", new: "Sorry" },
  ]);
  assert.equal(edge(after, "read", "bad").port, "failed");
  assert.equal(after.nodes.bad.title, "Sorry");
});

test("what cannot be foretold changes nothing", () => {
  const before = view();
  const operations = [
    { kind: "set_source", text: "x" },
    { kind: "add_edge", edge: { from: "nobody", to: "bad" } },
    { kind: "remove_edge", edge: { from: "nobody", to: "bad" } },
    { kind: "set_config", node: "nobody", path: ["title"], new: "x" },
  ];
  assert.deepEqual(foretell(before, operations), before);
});
