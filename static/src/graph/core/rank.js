// Which of many things somebody means by a few letters.

/** Items that fit, best first. An item has `title` and perhaps `group`, `description` and `words` to be found by.
 * The order given counts where the letters do not. */
export function rank(items, query, limit = 50) {
  const asked = fold(query);
  if (!asked) return items.slice(0, limit);
  return items
    .map((item, index) => ({ item, index, score: scoreOf(item, asked) }))
    .filter(({ score }) => score > 0)
    .sort((a, b) => b.score - a.score || a.index - b.index)
    .slice(0, limit)
    .map(({ item }) => item);
}

function scoreOf(item, asked) {
  const title = score(fold(item.title), asked);
  const rest = Math.max(score(fold(item.words ?? ""), asked) * 0.6, score(fold(item.group ?? ""), asked) * 0.3, fold(item.description ?? "").includes(asked) ? 12 : 0);
  return Math.max(title, rest);
}

/** 100 for the same text, less for its beginning, a word's beginning, initials, a piece, letters in order; else 0. */
export function score(text, asked) {
  if (!asked || !text) return 0;
  if (text === asked) return 100;
  if (text.startsWith(asked)) return 90;
  const words = text.split(/[^\p{L}\p{N}]+/u).filter(Boolean);
  if (words.some((word) => word.startsWith(asked))) return 80;
  const parts = asked.split(" ").filter(Boolean);
  if (parts.length > 1 && parts.every((part) => words.some((word) => word.startsWith(part)))) return 75;
  if (asked.length > 1 && words.map((word) => word[0]).join("").startsWith(asked)) return 60;
  if (text.includes(asked)) return 50;
  return asked.length > 2 && isSpread(text, asked) ? 20 : 0;
}

function isSpread(text, asked) {
  let at = -1;
  for (const letter of asked) {
    if (letter === " ") continue;
    at = text.indexOf(letter, at + 1);
    if (at < 0) return false;
  }
  return true;
}

const fold = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase().trim().replace(/\s+/g, " ");
