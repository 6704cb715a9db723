// What a refused change leaves to decide. Somebody else was faster: both values in words, and what would have to be sent
// to keep one's own. A change that holds nothing of the person's, such as a move, leaves nothing.
import { freeId } from "./ids.js";
import { scopeOf } from "./patch.js";

const LONGEST = 120;
const VALUES = new Set(["set_config", "set_edge", "set_contract", "set_layout"]);

/**
 * What is to be decided, or null. view: as it is now, theirs included; problem: {message, conflict, ops_since}.
 *
 * Returns {id, words, operation, keep, leave}: `operation` is what is sent when the person keeps theirs, null when that
 * cannot be; `keep` and `leave` are what the buttons say.
 */
export function unsettled(view, operation, problem) {
  const found = VALUES.has(operation.kind) ? value(view, operation, problem) : operation.kind === "add_node" ? added(view, operation, problem) : operation.kind === "paste" ? pasted(problem) : null;
  return found && { id: operation.op_id, operation: null, keep: "", leave: "All right", ...found };
}

/** The rest of a refused move: what is still there goes where it was put. Null when there is nothing to send. */
export function restOfMove(view, operation) {
  if (operation.kind !== "move_nodes") return null;
  const there = Object.entries(operation.positions).filter(([path]) => view.nodes[path]);
  const isLess = there.length < Object.keys(operation.positions).length;
  return isLess && there.length ? { kind: "move_nodes", positions: Object.fromEntries(there) } : null;
}

function value(view, operation, { message, conflict, ops_since: since = [] }) {
  const { op_id: _, ...again } = operation;
  const mine = shown(operation.new);
  const what = placeOf(view, operation);
  if (operation.node && !view.nodes[operation.node]) {
    const last = since.findLast((one) => one.node === operation.node && ["remove_node", "rename"].includes(one.kind));
    const fate = last?.kind === "rename" ? `gave “${operation.node}” the name “${last.to}”` : `removed “${operation.node}”`;
    const renamed = last?.kind === "rename" && [scopeOf(operation.node), last.to].filter(Boolean).join("/");
    if (renamed && view.nodes[renamed]) {
      return { words: `${nameOf(last)} ${fate}. Keep your change of ${what} to ${mine}?`, operation: { ...again, node: renamed }, keep: "Keep mine", leave: "Let it go" };
    }
    return { words: `${nameOf(last)} ${fate}; your change of ${what} to ${mine} has no place any more.` };
  }
  // Nothing to compare: the server said no for another reason.
  if (!conflict || !("theirs" in conflict) || conflict.op_id !== operation.op_id) return { words: `Your change of ${what} to ${mine} was not taken. ${message}` };
  const last = since.findLast((one) => isSamePlace(one, operation));
  const { old: __, ...bare } = again;
  const kept = conflict.theirs === null ? bare : { ...bare, old: conflict.theirs };
  return { words: `${nameOf(last)} changed ${what} to ${shown(conflict.theirs)}. Keep yours, ${mine}?`, operation: kept, keep: "Keep mine", leave: "Take theirs" };
}

function added(view, operation, { message }) {
  const { op_id: _, ...again } = operation;
  const { id } = operation.node;
  const title = operation.node.title || id;
  if (!view.nodes[[operation.scope, id].filter(Boolean).join("/")]) return { words: `“${title}” could not be added. ${message}` };
  const fresh = freeId(view, operation.scope ?? "", id);
  const edge = again.edge && { ...again.edge, to: again.edge.to === id ? fresh : again.edge.to };
  return {
    words: `There is another step called “${id}” by now. Add yours too, as “${fresh}”?`,
    operation: { ...again, node: { ...again.node, id: fresh }, ...(edge ? { edge } : {}) }, keep: "Add mine too", leave: "Leave it",
  };
}

const pasted = ({ message }) => ({ words: `Nothing was pasted. ${message}` });

const isSamePlace = (one, operation) =>
  one.node === operation.node && (one.kind === operation.kind || one.undoes) && JSON.stringify(one.path ?? null) === JSON.stringify(operation.path ?? null);

const nameOf = (operation) => operation?.actor?.name || "Somebody";

function placeOf(view, { kind, node, path = [], edge, old }) {
  const field = path.map((part) => (typeof part === "number" ? part + 1 : String(part).replaceAll("_", " "))).join(", ") || "all";
  if (kind === "set_edge") return `“${field}” of the edge ${edge?.from} → ${edge?.to}`;
  if (kind !== "set_config") return `“${field}”`;
  if (field === "title") return `the title of “${old || node}”`;
  return `“${field}” of “${view.nodes[node]?.title ?? node}”`;
}

function shown(value) {
  if (value === undefined || value === null || value === "") return "nothing";
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return `“${text.length > LONGEST ? `${text.slice(0, LONGEST - 1)}…` : text}”`;
}
