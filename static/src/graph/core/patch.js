// How a view changes: by patches of the server, which name whole entries only (apps/blueprints/core/editing/patch.py).

const PARTS = ["nodes", "edges", "groups", "notes"];
const EXTENT = ["x", "y", "width", "height"];

/** The view after a patch; null when the patch starts from another version and the view has to be asked for anew. */
export function applyPatch(view, patch) {
  if (!patch || patch.from_version !== view.version) return null;
  const next = { ...view, version: patch.to_version };
  for (const key of EXTENT) if (patch[key] !== undefined) next[key] = patch[key];
  for (const part of PARTS) if (patch[part]) next[part] = merged(view[part] ?? {}, patch[part]);
  return next;
}

/** Entries after a change; null takes one away. What did not change stays the same object. */
export function merged(entries, changes) {
  if (!Object.keys(changes).length) return entries;
  const next = { ...entries };
  for (const [key, entry] of Object.entries(changes)) {
    if (entry === null) delete next[key];
    else next[key] = entry;
  }
  return next;
}

/** Whether a path lies inside a container, at any depth. */
export const isInside = (path, container) => path.startsWith(`${container}/`);

/** The container of a path; "" at the top. */
export const scopeOf = (path) => path.slice(0, Math.max(0, path.lastIndexOf("/")));
