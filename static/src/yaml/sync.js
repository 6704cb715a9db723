// What stands in the text field against what the server has, without an editor: two kinds of changes that pass
// each other by. `ChangeSet` is CodeMirror's; nothing here touches the page.
import { ChangeSet } from "@codemirror/state";

/** The smallest single replacement that makes one text of another: {from, to, insert}. */
export function replacement(before, after) {
  let from = 0;
  const most = Math.min(before.length, after.length);
  while (from < most && before.charCodeAt(from) === after.charCodeAt(from)) from += 1;
  let end = 0;
  while (end < most - from && before.charCodeAt(before.length - 1 - end) === after.charCodeAt(after.length - 1 - end)) end += 1;
  return { from, to: before.length - end, insert: after.slice(from, after.length - end) };
}

/**
 * Holds the text the server is known to have, and what was typed since.
 *
 * typed(changes): the person changed the field. arrived(text): the server has another text; returns the changes that
 * bring the field up to it without losing what was typed, or null. sent(text): the server took over the whole field.
 */
export class Sync {
  constructor(text) {
    this.base = text;
    this.pending = ChangeSet.empty(text.length);
  }

  get isDirty() {
    return !this.pending.empty;
  }

  typed(changes) {
    this.pending = this.pending.compose(changes);
  }

  arrived(text) {
    if (text === this.base) return null;
    const theirs = ChangeSet.of([replacement(this.base, text)], this.base.length);
    const here = theirs.map(this.pending, true);
    this.pending = this.pending.map(theirs);
    this.base = text;
    return here;
  }

  sent(text, now) {
    this.base = text;
    this.pending = ChangeSet.of(text === now ? [] : [replacement(text, now)], text.length);
  }
}
