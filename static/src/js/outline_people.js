// Who else is where, beside the rows of the outline. The page says mn:presence {people}.

/** itemOf(path): the row of a step. Returns what shows the signs again after the rows have changed. */
export function outlinePeople(root, itemOf) {
  let people = [];
  function show() {
    for (const sign of root.querySelectorAll(".outline-person")) sign.remove();
    for (const item of root.querySelectorAll("[data-person]")) {
      item.classList.remove(...[...item.classList].filter((one) => one.startsWith("mn-colour-")));
      delete item.dataset.person;
    }
    for (const person of people) {
      for (const path of person.selected ?? []) {
        const item = itemOf(path);
        if (!item || item.dataset.person) continue;
        item.dataset.person = person.name;
        item.classList.add(`mn-colour-${person.colour ?? 0}`);
        const sign = document.createElement("span");
        sign.className = "outline-person";
        sign.textContent = `${person.name} is here. `;
        item.querySelector(".outline-about").prepend(sign);
      }
    }
  }
  document.addEventListener("mn:presence", (event) => {
    ({ people } = event.detail);
    show();
  });
  return show;
}
