import assert from "node:assert/strict";
import { test } from "node:test";
import { pastedWords } from "../../static/src/graph/core/pasted.js";
import { view } from "./graph.mjs";

test("what is pasted is said, with what is not here", () => {
  const shown = view();
  assert.deepEqual(pastedWords(shown, ["bad"], ["bad"]), { words: "Pasted bad.", isProblem: false });
  shown.nodes["each/score"].problems = { errors: 2, warnings: 0, first: "There is no agent “judge”." };
  const found = pastedWords(shown, ["each", "bad"], ["each", "each/score", "bad"]);
  assert.deepEqual(found, { words: "Pasted 2 steps. 2 things to fix. each/score: There is no agent “judge”.", isProblem: true });
});
