// The keyboard of the canvas: which key means which command. One table for the keys and for the help on `?`.

export const KEYS = [
  { keys: ["ArrowRight"], command: "right", shown: "→", says: "Follow an edge onward" },
  { keys: ["ArrowLeft"], command: "left", shown: "←", says: "Follow an edge back" },
  { keys: ["ArrowUp"], command: "up", shown: "↑", says: "Step above; out of a container" },
  { keys: ["ArrowDown"], command: "down", shown: "↓", says: "Step below; into a container" },
  { keys: ["Home"], command: "first", shown: "Home", says: "First step" },
  { keys: ["End"], command: "last", shown: "End", says: "Last step" },
  { keys: ["Enter"], command: "open", shown: "Enter", says: "Open its form" },
  { keys: ["Escape"], command: "escape", shown: "Esc", says: "Back to the canvas; select nothing" },
  { keys: [" "], command: "toggle", shown: "Space", says: "Select it too, or no longer" },
  { keys: ["f"], command: "find", shown: "F", says: "Find a step" },
  { keys: ["m"], command: "comments", shown: "M", says: "Open the review’s comments on it" },
  { keys: ["e"], command: "edges", shown: "E", says: "Choose one of its edges" },
  { keys: ["z"], command: "fit", shown: "Z", says: "Show everything" },
  { keys: ["+", "="], command: "zoom-in", shown: "+", says: "Nearer" },
  { keys: ["-"], command: "zoom-out", shown: "−", says: "Farther" },
  { keys: ["."], command: "collapse", shown: ".", says: "Collapse or expand a container", edits: true },
  { keys: ["?"], command: "keys", shown: "?", says: "These keys" },
  { keys: ["c"], command: "connect", shown: "C", says: "Connect to another step", edits: true },
  { keys: ["a"], command: "add-after", shown: "A", says: "Add a step after this one", edits: true },
  { keys: ["i"], command: "insert", shown: "I", says: "Insert a step on an edge", edits: true },
  { keys: ["/"], command: "palette", shown: "/", says: "Add a step", edits: true },
  { keys: ["Delete", "Backspace"], command: "remove", shown: "Del", says: "Remove", edits: true },
  { keys: ["F2", "r"], command: "rename", shown: "R", says: "Change the title", edits: true },
  { keys: ["g"], command: "group", shown: "G", says: "Group what is selected, or take the group apart", edits: true },
  { keys: ["n"], command: "note", shown: "N", says: "Add a note", edits: true },
  { keys: ["t"], command: "tidy", shown: "T", says: "Tidy the picture", edits: true },
  { keys: ["t"], shift: true, command: "tidy-rest", shown: "Shift T", says: "Tidy, and leave what was put by hand", edits: true },
  { keys: ["ArrowRight"], alt: true, command: "move-right", shown: "Alt + arrows", says: "Move; with Shift farther", edits: true },
  { keys: ["ArrowLeft"], alt: true, command: "move-left", edits: true },
  { keys: ["ArrowUp"], alt: true, command: "move-up", edits: true },
  { keys: ["ArrowDown"], alt: true, command: "move-down", edits: true },
  { keys: ["a"], ctrl: true, command: "select-all", shown: "Ctrl A", says: "Select everything" },
  { keys: ["c"], ctrl: true, command: "copy", shown: "Ctrl C", says: "Copy as YAML" },
  { keys: ["x"], ctrl: true, command: "cut", shown: "Ctrl X", says: "Cut", edits: true },
  { keys: ["v"], ctrl: true, command: "paste", shown: "Ctrl V", says: "Paste", edits: true, passes: true },
  { keys: ["d"], ctrl: true, command: "duplicate", shown: "Ctrl D", says: "Duplicate", edits: true },
  { keys: ["z"], ctrl: true, command: "undo", shown: "Ctrl Z", says: "Undo", edits: true },
  { keys: ["z"], ctrl: true, shift: true, command: "redo", shown: "Ctrl Shift Z", says: "Redo", edits: true },
  { keys: ["y"], ctrl: true, command: "redo", edits: true },
];

/** The entry a key press means on the canvas, or null. Letters count in either case; shift only where it is said,
 * except that it makes a move longer. */
export function keyFor(event, { readonly = false } = {}) {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const ctrl = Boolean(event.ctrlKey || event.metaKey);
  const alt = Boolean(event.altKey);
  const isSign = event.key.length === 1 && !/[a-z]/i.test(event.key);
  return (
    KEYS.find(
      (entry) =>
        entry.keys.includes(key) &&
        Boolean(entry.ctrl) === ctrl &&
        Boolean(entry.alt) === alt &&
        (isSign || alt || Boolean(entry.shift) === Boolean(event.shiftKey)) &&
        !(readonly && entry.edits),
    ) ?? null
  );
}

/** What stands on `?`. */
export const help = (readonly) => KEYS.filter((entry) => entry.says && !(readonly && entry.edits));
