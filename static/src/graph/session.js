// One draft being edited: sends operations, takes answers and what others do, keeps the view true. The server's
// view is the truth; what is on its way is drawn on top of it until the answer is here.
import { Refused, Unreachable } from "./api.js";
import { newId } from "./core/ids.js";
import { applyPatch } from "./core/patch.js";
import { makeQueue, statusWords } from "./core/queue.js";
import { restOfMove, unsettled } from "./core/unsettled.js";

const MOST_RECENT = 200;
const UNREACHED = "The server cannot be reached just now.";

/** say: a sentence for the person; applied({version, patch, kinds}): after every change of the server's view, kinds
 * of operations that made it where they are known; status({words, isIdle, version}): after every change of where things
 * are; undecided(list): refused changes the person has to decide about, kept over a reload. */
export function makeSession({ store, api, keepAs, say, applied, status, undecided = () => {} }) {
  const kept = read(keepAs);
  let open = read(`${keepAs}-undecided`);
  const queue = makeQueue({ kept, newId, keep: (batches) => write(keepAs, batches) });
  let recent = [];
  let busy = 0;
  let early = [];
  let waiting = [];
  let timer = 0;

  const report = () => {
    const version = store.server.version;
    store.setPending(queue.pending());
    status({ words: statusWords(queue), isOffline: queue.isOffline(), isIdle: queue.isEmpty() && !busy, version });
    if (queue.isEmpty() && !busy) waiting.splice(0).forEach(({ done }) => done(true));
    else if (queue.isOffline()) {
      const gone = waiting.filter((one) => one.isShort);
      waiting = waiting.filter((one) => !one.isShort);
      gone.forEach(({ done }) => done(false));
    }
  };

  /** True when the server has answered everything; false, where `isShort`, as soon as it cannot be reached. */
  const answered = (isShort) => (queue.isEmpty() && !busy ? Promise.resolve(true) : new Promise((done) => waiting.push({ done, isShort })));

  /** Take an answer's patch in; where it starts from another version, the whole view is asked for. */
  async function take(patch, version, ops) {
    if (version !== undefined && version <= store.server.version) return;
    const next = patch && applyPatch(store.server, patch);
    if (next) {
      store.setServer(next);
      applied({ version: next.version, patch, kinds: ops?.map((operation) => operation.kind) });
    } else await refresh();
  }

  async function refresh() {
    adopt(await api.view());
  }

  function adopt(view) {
    if (view.version < store.server.version) return;
    store.setServer({ ...view, mode: store.server.mode });
    applied({ version: view.version, patch: null });
  }

  async function pump() {
    const batch = queue.next();
    if (!batch) return report();
    busy += 1;
    report();
    try {
      const answer = await api.operations(store.server.version, batch);
      await take(answer.patch, answer.version, answer.ops);
      queue.done();
    } catch (error) {
      if (error instanceof Refused) await refused(error);
      else {
        if (!(error instanceof Unreachable)) console.error(error);
        const isNews = error.reason && error.reason !== queue.reason();
        timer = setTimeout(pump, queue.failed(Math.random(), error.reason));
        if (isNews) say(`${error.reason} Your change is kept on this page and sent again until it is stored.`, { isProblem: true });
        return;
      }
    } finally {
      busy -= 1;
      report();
    }
    await hearEarly();
    pump();
  }

  async function refused(error) {
    const { conflict, patch, version } = error.problem.details ?? error.problem;
    const lost = queue.refused(conflict?.op_id);
    const message = conflict?.message ?? error.message;
    try {
      await take(patch, version ?? store.server.version + 1);
    } catch {
      // The next answer brings it.
    }
    // Who was faster is often told by the socket before the refusal is here.
    const told = { message, conflict, ops_since: [...recent, ...((error.problem.details ?? error.problem).ops_since ?? [])] };
    const left = lost.map((operation) => unsettled(store.server, operation, told)).filter(Boolean);
    if (left.length) decide([...open.filter((one) => !left.some((other) => other.id === one.id)), ...left]);
    const rest = lost.map((operation) => restOfMove(store.server, operation)).filter(Boolean);
    if (rest.length) queue.add(rest);
    // What stays on the page until it is decided needs no notice that goes by.
    say(left[0]?.words ?? message, { isProblem: !left.length });
  }

  function decide(list) {
    open = list;
    write(`${keepAs}-undecided`, open);
    undecided(open);
  }

  async function hearEarly() {
    const heard = early;
    early = [];
    for (const message of heard) await take(message.patch, message.version, message.ops).catch(() => {});
  }

  const online = () => {
    clearTimeout(timer);
    if (!queue.isEmpty()) pump();
  };
  addEventListener("online", online);
  if (kept.length) pump();
  if (open.length) queueMicrotask(() => undecided(open));

  return {
    /** Send operations; they are one step for undo. Resolves with true when the server has answered everything, with
     * false when it cannot be reached: what was done is kept then, and sent later. */
    do(operations, undo_group) {
      queue.add(operations, undo_group ?? (operations.length > 1 ? newId() : undefined));
      pump();
      return answered(true);
    },
    /** Why nothing is taken just now. */
    why: () => queue.reason() || UNREACHED,
    /** The person's answer to a refused change: their own is sent again as an answer to what stands there now. */
    settle(id, isKept) {
      const one = open.find((entry) => entry.id === id);
      decide(open.filter((entry) => entry !== one));
      if (isKept && one?.operation) this.do([one.operation]);
    },
    /** Undo, redo or tidy: after everything that is on its way. Resolves with the answer, or null when refused. Never
     * done later: by then the person has gone on. */
    async ask(act) {
      if (queue.isOffline()) online();
      if (!(await answered(true))) {
        say(`${this.why()} Nothing is lost.`, { isProblem: true });
        return null;
      }
      busy += 1;
      report();
      try {
        const answer = await act();
        await take(answer.patch, answer.version, answer.ops);
        return answer;
      } catch (error) {
        say(error instanceof Unreachable ? error.reason || `${UNREACHED} Nothing is lost.` : error.message, { isProblem: true });
        return null;
      } finally {
        busy -= 1;
        await hearEarly();
        report();
      }
    },
    /** What others did, as the socket tells it. */
    hear(message) {
      recent = [...recent, ...(message.ops ?? [])].slice(-MOST_RECENT);
      if (message.version <= store.server.version) return;
      if (busy) early.push(message);
      else take(message.patch, message.version, message.ops).catch(() => {});
    },
    /** Somebody on this page has changed the draft otherwise, such as a form. */
    heard({ version, patch }) {
      if (version === undefined || version > store.server.version) this.hear({ version: version ?? store.server.version + 1, patch });
    },
    refresh: () => refresh().catch(() => {}),
    /** Another session of this page knows the server's view, perhaps a newer one. */
    catchUp(view) {
      if (view.version > store.server.version) adopt(view);
    },
    settled: () => answered(false),
    report,
    close() {
      removeEventListener("online", online);
      clearTimeout(timer);
    },
  };
}

/** Whether a session that kept its changes under this name has left some behind. */
export const isLeft = (keepAs) => Boolean(read(keepAs).length || read(`${keepAs}-undecided`).length);

function read(key) {
  try {
    return JSON.parse(sessionStorage.getItem(key)) ?? [];
  } catch {
    return [];
  }
}

function write(key, batches) {
  try {
    if (batches.length) sessionStorage.setItem(key, JSON.stringify(batches));
    else sessionStorage.removeItem(key);
  } catch {
    // Storage may be full or forbidden; the page still holds everything.
  }
}
