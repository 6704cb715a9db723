import assert from "node:assert/strict";
import { test } from "node:test";
import { ChangeSet, Text } from "../../static/node_modules/@codemirror/state/dist/index.js";
import { Sync, replacement } from "../../static/src/yaml/sync.js";

const text = (value) => Text.of(value.split("\n"));
const edit = (sync, field, from, to, insert) => {
  const changes = ChangeSet.of([{ from, to, insert }], field.length);
  sync.typed(changes);
  return changes.apply(text(field)).toString();
};
const take = (sync, field, arrived) => {
  const changes = sync.arrived(arrived);
  return changes ? changes.apply(text(field)).toString() : field;
};

test("the smallest replacement makes one text of the other", () => {
  for (const [before, after] of [["abc", "abXc"], ["", "a"], ["aa", "a"], ["same", "same"], ["abab", "ab"]]) {
    const { from, to, insert } = replacement(before, after);
    assert.equal(before.slice(0, from) + insert + before.slice(to), after);
  }
});

test("what others change comes in around what is being typed", () => {
  const sync = new Sync("goal: less\ntitle: a\n");
  let field = edit(sync, "goal: less\ntitle: a\n", 18, 19, "mine");
  field = take(sync, field, "goal: fewer lost hours\ntitle: a\n");
  assert.equal(field, "goal: fewer lost hours\ntitle: mine\n");
  assert.equal(sync.isDirty, true);
  sync.sent(field, field);
  assert.equal(sync.isDirty, false);
});

test("nothing that is typed while a text is on its way counts as sent", () => {
  const sync = new Sync("a");
  const sent = edit(sync, "a", 1, 1, "b");
  const now = edit(sync, sent, 2, 2, "c");
  sync.sent(sent, now);
  assert.equal(sync.isDirty, true);
  assert.equal(take(sync, now, "Zab"), "Zabc");
});

test("any order of typing and arriving keeps every word of both", () => {
  let seed = 7;
  const random = (below) => (seed = (seed * 48271) % 2147483647) % below;
  for (let round = 0; round < 300; round += 1) {
    const sync = new Sync("0123456789");
    let field = "0123456789";
    let server = "0123456789";
    for (let step = 0; step < 12; step += 1) {
      if (random(2)) {
        const at = random(field.length + 1);
        field = edit(sync, field, at, at, "m");
      } else {
        const at = random(server.length + 1);
        server = `${server.slice(0, at)}t${server.slice(at)}`;
        field = take(sync, field, server);
      }
      const count = (value, letter) => value.split(letter).length - 1;
      assert.equal(count(field, "t"), count(server, "t"));
    }
    assert.equal(field.replace(/m/g, ""), server);
    sync.sent(field, field);
    assert.equal(sync.arrived(field), null);
  }
});
