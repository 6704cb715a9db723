// Lengths of time in words, as the server writes them (apps/web/core/words.py): two units at most.
const UNITS = [["min", 60, "s", 1, 3600], ["h", 3600, "min", 60, 86400], ["d", 86400, "h", 3600, Infinity]];

/** `40 ms`, `0.4 s`, `12 s`, `3 min 5 s`; whole: nothing smaller than a second, for what ticks on. */
export function span(seconds, { whole = false } = {}) {
  const length = Math.max(0, seconds);
  if (!whole && length < 0.1) return `${Math.round(length * 1000)} ms`;
  if (!whole && length < 9.95) return `${length.toFixed(1)} s`;
  const full = Math.round(length);
  if (full < 60) return `${full} s`;
  const [unit, size, small, smallSize] = UNITS.find(([, , , , below]) => full < below);
  const rest = Math.floor((full % size) / smallSize);
  return `${Math.floor(full / size)} ${unit}${rest ? ` ${rest} ${small}` : ""}`;
}
