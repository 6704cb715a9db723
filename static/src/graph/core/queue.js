// Operations on their way to the server: in order, one batch at a time, each with an id of its own, so that a batch
// sent twice is done once. What cannot be sent is kept, also across a reload, and sent when the server answers again.
// Decides only: the caller sends and reports back.

/** A new queue. kept: what an earlier page left behind; keep: called with the batches after every change. */
export function makeQueue({ kept = [], keep = () => {}, newId }) {
  let batches = kept.map((batch) => ({ ...batch, sent: false, tries: 0, isOld: true }));
  const changed = () => keep(batches.map(({ ops, undo_group }) => ({ ops, ...(undo_group ? { undo_group } : {}) })));

  return {
    /** Take operations in; they get their ids here. Moves that follow moves become one. Returns the ids. */
    add(operations, undo_group) {
      const ops = operations.map((operation) => ({ ...operation, op_id: operation.op_id ?? newId() }));
      const last = batches.at(-1);
      if (last && !last.sent && !last.tries && !last.isOld && isMove(last.ops) && isMove(ops)) {
        last.ops[0] = { ...last.ops[0], positions: { ...last.ops[0].positions, ...ops[0].positions } };
        changed();
        return last.ops.map((operation) => operation.op_id);
      }
      batches.push({ ops, undo_group, sent: false, tries: 0 });
      changed();
      return ops.map((operation) => operation.op_id);
    },

    /** The batch to send now; null while one is on its way or nothing waits. */
    next() {
      const first = batches[0];
      if (!first || first.sent) return null;
      first.sent = true;
      return { ops: first.ops, ...(first.undo_group ? { undo_group: first.undo_group } : {}) };
    },

    /** The batch on its way was taken. */
    done() {
      if (batches[0]?.sent) batches = batches.slice(1);
      changed();
    },

    /** The server could not be reached, or could not answer: the same batch again, with the same ids. Says in how
     * many milliseconds; jitter is a draw from [0, 1), reason why in words, if the server said so. */
    failed(jitter, reason = "") {
      const first = batches[0];
      if (!first) return 0;
      first.reason = reason;
      first.sent = false;
      first.tries += 1;
      return Math.min(500 * 2 ** (first.tries - 1), 15000) * (0.5 + jitter / 2);
    },

    /** The server refused one operation of the batch on its way, and took none: the others go again. Returns what
     * was given up; all of the batch where the server did not say which. */
    refused(op_id) {
      const first = batches[0];
      if (!first) return [];
      const lost = op_id && first.ops.some((op) => op.op_id === op_id) ? first.ops.filter((op) => op.op_id === op_id) : first.ops;
      const rest = first.ops.filter((op) => !lost.includes(op));
      batches = rest.length ? [{ ...first, ops: rest, sent: false, tries: 0 }, ...batches.slice(1)] : batches.slice(1);
      changed();
      return lost;
    },

    /** Everything not yet known to be done, in order. */
    pending: () => batches.flatMap((batch) => batch.ops),
    isEmpty: () => batches.length === 0,
    /** Why the first batch is still here, in the server's words; "" when it has said nothing. */
    reason: () => batches[0]?.reason ?? "",
    /** Whether the server has not answered for a while. */
    isOffline: () => (batches[0]?.tries ?? 0) > 0,
    count: () => batches.reduce((sum, batch) => sum + batch.ops.length, 0),
  };
}

const isMove = (ops) => ops.length === 1 && ops[0].kind === "move_nodes";

/** The header's word for where the changes are. */
export function statusWords(queue, { version } = {}) {
  const count = queue.count();
  if (queue.reason()) return `Not saved. ${queue.reason()} ${count} ${count === 1 ? "change" : "changes"} kept here, tried again`;
  if (queue.isOffline()) return `Offline, ${count} ${count === 1 ? "change" : "changes"} kept`;
  if (count) return "Saving…";
  return version === undefined ? "Saved" : `Draft ${version} · saved`;
}
