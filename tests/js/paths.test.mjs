import assert from "node:assert/strict";
import { test } from "node:test";
import { angles, curves, follow } from "../../static/src/graph/core/paths.js";

test("a level line is straight and a bent one leaves and arrives horizontally", () => {
  assert.equal(curves([[0, 10], [50, 10], [90, 30]]), "M0 10H50C70 10 70 30 90 30");
});

test("a back edge turns with round corners", () => {
  assert.equal(angles([[0, 0], [20, 0], [20, 40]]), "M0 0L12 0Q20 0 20 8L20 40");
});

test("an edge between boxes that moved apart goes straight across, one that goes back runs below both", () => {
  const box = (x, y) => ({ x, y, w: 100, h: 40 });
  const moved = { from: [0, 0], to: [0, 0] };
  assert.deepEqual(follow({ points: [] }, box(0, 0), box(200, 60), moved), [[100, 20], [200, 80]]);
  const back = follow({ points: [] }, box(200, 0), box(0, 10), moved);
  assert.equal(Math.max(...back.map(([, y]) => y)), 70);
  assert.deepEqual(back.at(-1), [0, 40]);
});
