import assert from "node:assert/strict";
import { test } from "node:test";
import { commentsAt, commentWords } from "../../static/src/graph/core/comments.js";

const comments = { each: { count: 1, url: "#each" }, "each/score": { count: 2, url: "#score" } };

test("a step says its own comments, a collapsed container those it hides too", () => {
  assert.deepEqual(commentsAt(comments, { path: "each/score" }), { count: 2, url: "#score" });
  assert.deepEqual(commentsAt(comments, { path: "each" }), { count: 1, url: "#each" });
  assert.deepEqual(commentsAt(comments, { path: "each", collapsed: true }), { count: 3, url: "#each" });
  assert.equal(commentsAt(comments, { path: "other" }), null);
  assert.deepEqual([commentWords(1), commentWords(3)], ["1 comment", "3 comments"]);
});
