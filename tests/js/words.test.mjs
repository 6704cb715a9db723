import assert from "node:assert/strict";
import { test } from "node:test";
import { makeAnnouncer, QUIET_MS, sentence } from "../../static/src/graph/core/announce.js";
import { freeId, newId } from "../../static/src/graph/core/ids.js";
import { KEYS, help, keyFor } from "../../static/src/graph/core/keys.js";
import { freePlace, placeOfNew } from "../../static/src/graph/core/place.js";
import { rank } from "../../static/src/graph/core/rank.js";
import { nothing, only, outermost, toggle, within } from "../../static/src/graph/core/selection.js";
import { view } from "./graph.mjs";

const press = (key, more = {}) => keyFor({ key, ...more })?.command;

test("keys mean what the help says", () => {
  assert.equal(press("ArrowRight"), "right");
  assert.equal(press("ArrowRight", { altKey: true }), "move-right");
  assert.equal(press("ArrowRight", { altKey: true, shiftKey: true }), "move-right");
  assert.equal(press("c"), "connect");
  assert.equal(press("C", { shiftKey: true }), undefined);
  assert.equal(press("c", { ctrlKey: true }), "copy");
  assert.equal(press("z", { metaKey: true }), "undo");
  assert.equal(press("Z", { metaKey: true, shiftKey: true }), "redo");
  assert.equal(press("?", { shiftKey: true }), "keys");
  assert.equal(press("/"), "palette");
  assert.equal(press("q"), undefined);
});

test("no key means two things", () => {
  const seen = KEYS.flatMap((entry) => entry.keys.map((key) => [key, entry.ctrl, entry.alt, entry.shift].join()));
  assert.equal(new Set(seen).size, seen.length);
});

test("who may only look gets no key that changes something", () => {
  assert.equal(keyFor({ key: "Delete" }, { readonly: true }), null);
  assert.equal(keyFor({ key: "f" }, { readonly: true }).command, "find");
  assert.ok(help(true).every((entry) => !entry.edits) && help(false).length > help(true).length);
});

test("the best fit comes first", () => {
  const items = ["Approve refund", "Refund policy", "Send reply", "Draft refund reply", "Re-fund"].map((title) => ({ title }));
  const titles = (query) => rank(items, query).map((item) => item.title);
  assert.equal(titles("refund policy")[0], "Refund policy");
  assert.deepEqual(titles("refund").slice(0, 3), ["Refund policy", "Approve refund", "Draft refund reply"]);
  assert.equal(titles("drr")[0], "Draft refund reply");
  assert.deepEqual(titles("xyz"), []);
  assert.deepEqual(titles(""), items.map((item) => item.title));
});

test("accents and case do not matter, descriptions count a little", () => {
  const items = [{ title: "Prüfen" }, { title: "Other", description: "prufen" }];
  assert.deepEqual(rank(items, "PRUF").map((item) => item.title), ["Prüfen", "Other"]);
});

test("many changes are one sentence with what is urgent first", () => {
  assert.equal(
    sentence([["A", "running"], ["A", "succeeded"], ["B", "succeeded"], ["C", "succeeded"], ["Review", "waiting"]]),
    "Review is waiting, 3 steps done",
  );
  assert.equal(sentence([["Send", "failed"]]), "Send failed");
  assert.equal(sentence([["A", "blocked"]]), "");
});

test("what happens by itself is said at most every five seconds", () => {
  const said = [];
  let now = 0;
  let planned = [];
  const announcer = makeAnnouncer({ say: (words) => said.push(words), at: () => now, later: (act, ms) => planned.push([now + ms, act]) });
  const run = (until) => {
    now = until;
    const due = planned.filter(([at]) => at <= now);
    planned = planned.filter(([at]) => at > now);
    due.forEach(([, act]) => act());
  };
  announcer.heard("A", "succeeded");
  run(0);
  announcer.heard("B", "succeeded");
  announcer.heard("C", "waiting");
  run(QUIET_MS - 1);
  assert.deepEqual(said, ["A is done"]);
  run(QUIET_MS);
  assert.deepEqual(said, ["A is done", "C is waiting, B is done"]);
});

test("selection follows what is there", () => {
  const shown = view();
  const both = toggle(only("read"), "good");
  assert.deepEqual(both.paths, ["read", "good"]);
  assert.deepEqual(toggle(both, "read").paths, ["good"]);
  assert.equal(within(both, shown), both, "nothing changes, nothing is drawn anew");
  delete shown.nodes.good;
  assert.deepEqual(within(both, shown), { paths: ["read"], current: "", edge: "" });
  assert.deepEqual(outermost(["each/score", "each", "read"]), ["each", "read"]);
  assert.deepEqual(nothing.paths, []);
});

test("a note finds room beside what is there", () => {
  const shown = view();
  const at = freePlace(shown, { x: 10, y: 0 }, { w: 200, h: 120 });
  const covers = (box) => at.x < box.x + box.w && at.x + 200 > box.x && at.y < box.y + box.h && at.y + 120 > box.y;
  assert.deepEqual(Object.values(shown.nodes).filter(covers), []);
  assert.deepEqual(freePlace({ nodes: {} }, { x: 1, y: 2 }, { w: 9, h: 9 }), { x: 1, y: 2 });
});

test("a new step stands beside the step it follows where a person has put that one", () => {
  const shown = view();
  assert.equal(placeOfNew(shown, "judge"), null, "the layout finds a place");
  shown.nodes.judge = { ...shown.nodes.judge, x: 900, y: 300, placed: true };
  assert.deepEqual(placeOfNew(shown, "judge"), { x: 900 + 188 + 48, y: 300 });
  shown.nodes.other = { ...shown.nodes.judge, path: "other", id: "other", x: 1136, y: 300 };
  const below = placeOfNew(shown, "judge");
  assert.equal(below.x, 1136);
  assert.ok(below.y >= 364, "below the one that stands there");
  const between = placeOfNew(shown, "read", "judge");
  assert.ok(between.x > 188 && between.x + 188 < 900, "between both ends of the edge");
  const inside = view();
  for (const path of ["each/score", "each/note"]) inside.nodes[path].placed = true;
  assert.deepEqual(placeOfNew(inside, "each/note"), { x: 960 + 188 + 48, y: 50 }, "what stands outside is not in the way");
});

test("new ids are free in their scope and good names", () => {
  const shown = view();
  assert.equal(freeId(shown, "", "Read"), "read_2");
  assert.equal(freeId(shown, "each", "Read"), "read");
  assert.equal(freeId(shown, "", "Ärger & 2 mehr!"), "arger_2_mehr");
  assert.equal(freeId(shown, "", "…"), "step");
  assert.equal(freeId(shown, "", "7 up"), "n7_up");
  const coming = [{ kind: "add_node", scope: "", node: { id: "read_2" } }, { kind: "add_node", scope: "each", node: { id: "read" } }];
  assert.equal(freeId(shown, "", "Read", coming), "read_3", "one that is on its way is taken");
  assert.equal(freeId(shown, "each", "Read", coming), "read_2");
  assert.match(newId(), /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/);
});
