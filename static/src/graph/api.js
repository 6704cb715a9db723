// The draft's addresses (docs/reference/api.md). Says what came of a request; decides nothing.

/** The server could not be reached or could not answer now: trying again may help. */
export class Unreachable extends Error {
  /** reason: why, in words, when the server is there and says it; else "". */
  constructor(message, reason = "") {
    super(message);
    this.reason = reason;
  }
}

/** The server said no, with its reason in words. */
export class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail ?? problem.message ?? problem.title ?? `The server answered ${status}.`);
    this.status = status;
    this.problem = problem;
    this.code = problem.code ?? "";
  }
}

/** Review comments that wait, as the page brings them. */
export const pageComments = () => JSON.parse(document.getElementById("review-comments")?.textContent ?? "{}");

const STORAGE = new Set(["storage_full", "read_only", "database"]);
// The box of things to fix has them already, and draws them.
const BRIEF = { problems: "false" };
const LATER = new Set([408, 425, 429, 500, 502, 503, 504]);

export function makeApi({ name, isPrivate = false }) {
  const base = `/api/v1/blueprints/${encodeURIComponent(name)}/draft`;

  async function ask(method, path, { query = {}, body, headers = {} } = {}) {
    const parameters = new URLSearchParams(isPrivate ? { private: "true" } : {});
    for (const [key, value] of Object.entries(query)) for (const one of [value].flat()) parameters.append(key, one);
    const text = parameters.toString();
    let answer;
    try {
      answer = await fetch(`${base}${path}${text ? `?${text}` : ""}`, {
        method,
        headers: {
          Accept: "application/json",
          ...(body === undefined ? {} : { "Content-Type": "application/json" }),
          ...(method === "GET" ? {} : { "X-CSRFToken": document.querySelector("meta[name=csrf-token]")?.content ?? "" }),
          ...headers,
        },
        body: body === undefined ? undefined : JSON.stringify(body),
      });
    } catch (error) {
      throw new Unreachable(String(error));
    }
    if (LATER.has(answer.status)) {
      const { code, detail } = await answer.json().catch(() => ({}));
      throw new Unreachable(`The server answered ${answer.status}.`, STORAGE.has(code) ? detail : "");
    }
    const data = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Refused(answer.status, data);
    return data;
  }

  return {
    view: () => ask("GET", "/view"),
    operations: (version, batch) => ask("POST", "/ops", { query: BRIEF, body: batch, headers: { "If-Match": `"${version}"` } }),
    undo: () => ask("POST", "/undo", { query: BRIEF }),
    redo: () => ask("POST", "/redo", { query: BRIEF }),
    tidy: (keepPlaced) => ask("POST", "/tidy", { query: BRIEF, body: { keep_placed: keepPlaced } }),
    connect: (from) => ask("GET", "/connect", { query: { from } }),
    palette: (from, q, scope = "") => ask("GET", "/palette", { query: { ...(from ? { from } : {}), ...(scope ? { scope } : {}), q } }),
    fragment: (nodes) => ask("GET", "/fragment", { query: { nodes } }),
  };
}
