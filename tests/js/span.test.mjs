import assert from "node:assert/strict";
import { test } from "node:test";
import { span } from "../../static/src/graph/core/span.js";

test("a length of time has two units at most, as the server's words have", () => {
  const lengths = { 0: "0 ms", 0.0104: "10 ms", 0.4: "0.4 s", 9.94: "9.9 s", 9.96: "10 s", 59.6: "1 min", 185: "3 min 5 s", 7800: "2 h 10 min", 356400: "4 d 3 h" };
  for (const [seconds, words] of Object.entries(lengths)) assert.equal(span(Number(seconds)), words);
});

test("what ticks on has whole seconds", () => {
  assert.equal(span(0.04, { whole: true }), "0 s");
  assert.equal(span(3.4, { whole: true }), "3 s");
  assert.equal(span(61, { whole: true }), "1 min 1 s");
});
