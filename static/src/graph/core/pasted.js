// What is said of pasted steps: that they are there, and what they lean on that is not here.

const MOST_SAID = 3;

/** outer: what was pasted; fresh: that and all it holds. Problems make it something to be seen, not only heard. */
export function pastedWords(view, outer, fresh) {
  const what = outer.length === 1 ? view.nodes[outer[0]].title : `${outer.length} steps`;
  const wrong = fresh.map((path) => view.nodes[path]).filter((node) => node.problems?.errors);
  const reasons = [...new Set(wrong.map((node) => `${node.title}: ${node.problems.first}`))];
  if (!reasons.length) return { words: `Pasted ${what}.`, isProblem: false };
  const count = wrong.reduce((sum, node) => sum + node.problems.errors, 0);
  const more = reasons.length > MOST_SAID ? ` And ${reasons.length - MOST_SAID} more.` : "";
  return { words: `Pasted ${what}. ${count === 1 ? "1 thing" : `${count} things`} to fix. ${reasons.slice(0, MOST_SAID).join(" ")}${more}`, isProblem: true };
}
