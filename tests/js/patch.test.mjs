import assert from "node:assert/strict";
import { test } from "node:test";
import { applyPatch } from "../../static/src/graph/core/patch.js";
import { view } from "./graph.mjs";

const patch = (more) => ({ from_version: 3, to_version: 4, nodes: {}, edges: {}, groups: {}, notes: {}, ...more });

test("a patch replaces what it names, takes away what is null and leaves the rest the same objects", () => {
  const before = view();
  const judge = { ...before.nodes.judge, title: "Judge" };
  const after = applyPatch(before, patch({ nodes: { judge, bad: null }, width: 7 }));
  assert.equal(after.version, 4);
  assert.equal(after.width, 7);
  assert.equal(after.nodes.judge, judge);
  assert.ok(!("bad" in after.nodes));
  assert.equal(after.nodes.read, before.nodes.read);
  assert.equal(after.edges, before.edges);
  assert.ok("bad" in before.nodes, "the view before is not touched");
});

test("a patch from another version is refused", () => {
  assert.equal(applyPatch(view(), patch({ from_version: 2 })), null);
  assert.equal(applyPatch(view(), null), null);
});
