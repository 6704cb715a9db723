import assert from "node:assert/strict";
import { test } from "node:test";
import { ranked, wordAt } from "../../static/src/js/expression_fields.js";

test("a name is being written inside braces, and anywhere in an expression", () => {
  assert.equal(wordAt("{{ inputs.co", 12, "template"), "inputs.co");
  assert.equal(wordAt("Dear inputs.co", 14, "template"), null);
  assert.equal(wordAt("{{ a }} b", 9, "prompt"), null);
  assert.equal(wordAt("size(steps.a", 12, "expression"), "steps.a");
  assert.equal(wordAt("x > ", 4, "expression"), "");
  assert.equal(wordAt("inputs.co", 9, "bare"), "inputs.co");
  assert.equal(wordAt("{{ a }} in", 10, "bare"), null);
  assert.equal(wordAt("{{ in", 5, "bare"), "in");
});

test("names that begin with the word come first, then those with a part that does", () => {
  const names = ["steps.draft.output.company", "inputs.company", "company", "run.id"].map((name) => ({ name }));
  assert.deepEqual(ranked(names, "comp").map((one) => one.name), ["company", "steps.draft.output.company", "inputs.company"]);
  assert.deepEqual(ranked(names, "nothing"), []);
});
