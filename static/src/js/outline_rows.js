// The rows of the outline, changed in place: rows that look as before are not touched.
import { arrange, elementOf } from "./patch_list.js";

const OWN = new Set(["tabindex", "aria-selected"]);

export const nameOf = (item) => item.dataset.nodePath ?? `group:${item.dataset.groupId}`;

/** rows: {name: html} of those that look different; tree: [[name, […]]] of all, null when they stand as before;
 * commented: names of rows with comments that wait, all of them. */
export function patchRows(root, { rows, tree, commented }) {
  const known = new Map([...root.querySelectorAll("[role=treeitem]")].map((item) => [nameOf(item), item]));
  for (const [name, html] of Object.entries(rows)) {
    const fresh = elementOf(html);
    const item = known.get(name);
    if (item) renew(item, fresh);
    else known.set(name, fresh);
  }
  for (const sign of root.querySelectorAll(".outline-commented")) {
    if (!commented.includes(nameOf(sign.closest("[role=treeitem]")))) sign.remove();
  }
  if (!tree) return;
  const list = root.querySelector("[role=tree]");
  nest(list, tree, known);
  list.hidden = !tree.length;
  root.querySelector("[data-testid=outline-empty]").hidden = tree.length > 0;
}

function renew(item, fresh) {
  // Whether a row is folded is up to whoever reads it.
  const isFolded = item.hasAttribute("aria-expanded") && fresh.hasAttribute("aria-expanded");
  for (const { name } of [...item.attributes]) if (!OWN.has(name) && !fresh.hasAttribute(name)) item.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (!OWN.has(name) && !(name === "aria-expanded" && isFolded)) item.setAttribute(name, value);
  const row = fresh.querySelector(".outline-row");
  const more = row.querySelector("[data-more]");
  if (more) more.tabIndex = item.tabIndex;
  item.querySelector(":scope > .outline-row").replaceWith(row);
}

function nest(list, tree, known) {
  arrange(list, tree.map(([name]) => known.get(name)));
  for (const [name, inner] of tree) {
    const item = known.get(name);
    let place = item.querySelector(":scope > .outline-rows");
    if (inner.length && !place) {
      place = document.createElement("ul");
      place.setAttribute("role", "group");
      place.className = "outline-rows";
      item.append(place);
    }
    if (place) nest(place, inner, known);
    if (place && !inner.length) place.remove();
  }
}
