// The kinds of steps beside the canvas, in plain words: the shortest way in for those who point. `/` offers more.

/** entries: what the palette answers; put(entry): adds it; search(): opens the palette. */
export function fillShelf(place, entries, { put, search }) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "button mn-shelf-search";
  button.textContent = "Add a step ( / )";
  button.dataset.testid = "add-step";
  button.addEventListener("click", search);
  const list = document.createElement("ul");
  list.className = "mn-shelf";
  for (const entry of entries.filter((one) => !one.name)) {
    const row = document.createElement("li");
    const add = document.createElement("button");
    add.type = "button";
    add.className = "button bare";
    add.textContent = entry.title;
    add.title = entry.description;
    add.dataset.kind = entry.kind;
    add.addEventListener("click", () => put(entry));
    row.append(add);
    list.append(row);
  }
  const fold = document.createElement("details");
  const summary = document.createElement("summary");
  summary.textContent = "Kinds of steps";
  fold.append(summary, list);
  fold.open = matchMedia("(min-width: 60rem) and (min-height: 48rem)").matches;
  place.replaceChildren(button, fold);
}
