// What is said aloud. Commands are answered at once; what happens by itself is gathered and said at most every five
// seconds: "3 steps done, Human approval is waiting".

export const QUIET_MS = 5000;
const NAMED = 2;
const WORDS = {
  succeeded: "done", failed: "failed", waiting: "waiting", running: "running", in_doubt: "in doubt", skipped: "skipped", cancelled: "cancelled",
};
const ORDER = ["failed", "in_doubt", "waiting", "succeeded", "running", "skipped", "cancelled"];

/** One sentence about steps that have changed. changes: [title, state] pairs, the latest of a step counts. */
export function sentence(changes) {
  const latest = new Map(changes);
  const by = new Map();
  for (const [title, state] of latest) if (WORDS[state]) by.set(state, [...(by.get(state) ?? []), title]);
  const parts = ORDER.filter((state) => by.has(state)).map((state) => {
    const titles = by.get(state);
    const isUrgent = ["failed", "in_doubt", "waiting"].includes(state);
    if (titles.length === 1 || (isUrgent && titles.length <= NAMED)) {
      return `${titles.join(" and ")} ${titles.length > 1 ? "are" : "is"} ${WORDS[state]}`.replace(/ (is|are) failed/, " failed");
    }
    return `${titles.length} steps ${WORDS[state]}`;
  });
  return parts.join(", ");
}

/** Gathers changes. say: puts a sentence into the live region; at: the time in ms; later: like setTimeout. */
export function makeAnnouncer({ say, at, later }) {
  let waiting = [];
  let lastSaid = -Infinity;
  let planned = false;
  const flush = () => {
    planned = false;
    const words = sentence(waiting);
    waiting = [];
    if (words) {
      lastSaid = at();
      say(words);
    }
  };
  return {
    /** The answer to a command. */
    now(words) {
      say(words);
    },
    /** Something happened by itself. */
    heard(title, state) {
      waiting.push([title, state]);
      if (planned) return;
      planned = true;
      later(flush, Math.max(0, lastSaid + QUIET_MS - at()));
    },
  };
}
