// Review comments that are not settled yet, as the page brings them: {path: {count, url}}.
import { isInside } from "./patch.js";

/** How many are about a step; a collapsed container also answers for what it hides. */
export function commentsAt(comments, node) {
  const paths = Object.keys(comments).filter((path) => path === node.path || (node.collapsed && isInside(path, node.path)));
  return paths.length ? { count: paths.reduce((sum, path) => sum + comments[path].count, 0), url: comments[paths.sort()[0]].url } : null;
}

export const commentWords = (count) => (count === 1 ? "1 comment" : `${count} comments`);
