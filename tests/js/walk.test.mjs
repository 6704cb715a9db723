import assert from "node:assert/strict";
import { test } from "node:test";
import { afterRemoval, first, last, step } from "../../static/src/graph/core/walk.js";
import { view } from "./graph.mjs";

test("arrows follow the edges, forward ones before those that go back", () => {
  const shown = view();
  assert.equal(step(shown, "read", "right"), "judge");
  assert.equal(step(shown, "good", "left"), "judge");
  assert.equal(step(shown, "bad", "right"), "read", "only a back edge leads on");
  assert.equal(step(shown, "read", "left"), "bad");
});

test("up and down go to the step above and below", () => {
  const shown = view();
  assert.equal(step(shown, "good", "down"), "bad");
  assert.equal(step(shown, "bad", "up"), "good");
});

test("down enters a container; up and left leave it at its edge", () => {
  const shown = view();
  assert.equal(step(shown, "each", "down"), "each/score");
  assert.equal(step(shown, "each/score", "right"), "each/note");
  assert.equal(step(shown, "each/score", "up"), "each");
  assert.equal(step(shown, "each/score", "left"), "each");
});

test("every step of the picture can be reached from the first", () => {
  const shown = view();
  const reached = new Set([first(shown)]);
  const waiting = [...reached];
  while (waiting.length) {
    const from = waiting.pop();
    for (const way of ["right", "left", "up", "down"]) {
      const to = step(shown, from, way);
      if (!reached.has(to)) {
        reached.add(to);
        waiting.push(to);
      }
    }
  }
  assert.deepEqual([...reached].sort(), Object.keys(shown.nodes).sort());
});

test("nothing leads nowhere: at the end one stays, and from nothing one starts at the first", () => {
  const shown = view({ edges: {} });
  assert.equal(step(shown, "each", "right"), "each");
  assert.equal(step(shown, "gone", "right"), "read");
  assert.equal(last(shown), "each");
  assert.equal(first({ nodes: {}, edges: {} }), "");
});

test("after a removal the keyboard is upstream, else downstream, else on the container", () => {
  const shown = view();
  assert.equal(afterRemoval(shown, ["good"]), "judge");
  assert.equal(afterRemoval(shown, ["judge", "good"]), "read");
  assert.equal(afterRemoval(shown, ["read"]), "judge");
  assert.equal(afterRemoval(shown, ["each/score", "each/note"]), "each");
  assert.equal(afterRemoval(shown, Object.keys(shown.nodes)), "");
});
