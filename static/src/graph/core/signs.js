// Shapes and words of boundaries and states, the same as in apps/blueprints/core/svg.py; a test keeps them equal.

/** Drawn in a field of 16 by 16. */
export const BADGES = {
  deterministic: "M4 4h8v8h-8z",
  model: "M8 2.5l1.5 4 4 1.5-4 1.5-1.5 4-1.5-4-4-1.5 4-1.5z",
  external_read: "M8 2.5v7M5 6.8l3 3 3-3M3 13.2h10",
  external_write: "M8 10V3M5 5.7l3-3 3 3M3 13.2h10",
  human: "M8 2.6a2.6 2.6 0 1 1 0 5.2a2.6 2.6 0 1 1 0-5.2M3 13.6c.4-3 2.4-4 5-4s4.6 1 5 4",
};

/** Drawn in a disc of radius 8 around the middle. */
export const MARKS = {
  succeeded: "M-3.6.2l2.4 2.6 4.8-5.2",
  failed: "M-3-3l6 6M3-3l-6 6",
  running: "M-2.2-3.6l5.6 3.6-5.6 3.6z",
  ready: "M-3.4 0h.1M0 0h.1M3.3 0h.1",
  waiting: "M0-4.4V.2l3 2",
  "waiting:approval": "M0-4.6a2.1 2.1 0 1 1 0 4.2a2.1 2.1 0 1 1 0-4.2M-4 4.2c.4-2.2 1.9-3 4-3s3.6.8 4 3",
  in_doubt: "M-2.1-2.2a2.2 2.2 0 1 1 3.2 2C.2.4 0 .8 0 1.6M0 4.1v.1",
  cancelled: "M-4 0h8",
  skipped: "M-4-3l3.4 3-3.4 3M.8-3l3.4 3-3.4 3",
  added: "M-4 0h8M0-4v8",
  removed: "M-4 0h8",
  changed: "M-4 1c1.4-3 2.8-3 4-1s2.6 2 4-1",
};

export const STATE_WORDS = {
  ready: "next",
  running: "running",
  waiting: "waiting",
  "waiting:approval": "needs a person",
  "waiting:timer": "waiting for a time",
  "waiting:retry": "will try again",
  "waiting:signal": "waiting for a signal",
  "waiting:slot": "waiting for a free slot",
  "waiting:child": "waiting for its parts",
  in_doubt: "in doubt",
  succeeded: "done",
  failed: "failed",
  cancelled: "cancelled",
  skipped: "skipped",
};

const of = (table, state) => (state ? (table[state] ?? table[state.split(":")[0]] ?? "") : "");
export const markOf = (state) => of(MARKS, state);
export const wordOf = (state) => of(STATE_WORDS, state);
