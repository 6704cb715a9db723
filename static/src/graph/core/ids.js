// Names for new things.

/** A random id; pages that are not served from a secure origin have no randomUUID. */
export function newId() {
  if (globalThis.crypto?.randomUUID) return globalThis.crypto.randomUUID();
  const bytes = globalThis.crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 15) | 64;
  bytes[8] = (bytes[8] & 63) | 128;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

/** A free id for a new node in a scope: `send_email`, `send_email_2`, …. pending: operations that are on their way. */
export function freeId(view, scope, wish, pending = []) {
  const base = wish.toLowerCase().normalize("NFKD").replace(/\p{M}/gu, "").replace(/[^a-z0-9]+/g, "_").replace(/^_+|_+$/g, "").replace(/^(\d)/, "n$1").slice(0, 40) || "step";
  const taken = new Set(Object.values(view.nodes).filter((node) => node.scope === scope).map((node) => node.id));
  for (const one of pending) if (one.kind === "add_node" && (one.scope ?? "") === scope) taken.add(one.node.id);
  if (!taken.has(base)) return base;
  for (let number = 2; ; number += 1) if (!taken.has(`${base}_${number}`)) return `${base}_${number}`;
}
