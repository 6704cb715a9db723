// What is selected: an ordered set of paths and the one the keyboard is on.

export const nothing = Object.freeze({ paths: [], current: "", edge: "" });

export const only = (path) => ({ paths: path ? [path] : [], current: path, edge: "" });
export const onlyEdge = (selection, edge) => ({ paths: [], current: selection.current, edge });

/** Take a path in, or out again. */
export function toggle(selection, path) {
  const has = selection.paths.includes(path);
  const paths = has ? selection.paths.filter((other) => other !== path) : [...selection.paths, path];
  return { paths, current: path, edge: "" };
}

/** The same selection in a view that has changed: what is gone is let go. */
export function within(selection, view) {
  const paths = selection.paths.filter((path) => view.nodes[path]);
  const current = view.nodes[selection.current] ? selection.current : "";
  const edge = view.edges[selection.edge] ? selection.edge : "";
  const isSame = paths.length === selection.paths.length && current === selection.current && edge === selection.edge;
  return isSame ? selection : { paths, current, edge };
}

/** Without those that lie in another selected one: what is done to a container is done to its content. */
export function outermost(paths) {
  return paths.filter((path) => !paths.some((other) => path.startsWith(`${other}/`)));
}
