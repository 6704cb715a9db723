// Changes somebody else was faster with, until the person has decided each: keep mine, take theirs.

/** settle(id, isKept): the person's answer; left(): where the keyboard goes when nothing is left to decide. */
export function makeUnsettled({ settle, left }) {
  const element = document.createElement("section");
  element.className = "mn-unsettled";
  element.setAttribute("aria-label", "To decide");
  element.dataset.testid = "unsettled";
  element.hidden = true;

  function row({ id, words, operation, keep, leave }) {
    const entry = document.createElement("div");
    entry.className = "note wait";
    const says = document.createElement("p");
    says.textContent = words;
    const buttons = document.createElement("p");
    buttons.className = "row";
    for (const [verb, isKept] of [...(operation ? [[keep, true]] : []), [leave, false]]) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = isKept ? "button" : "button bare";
      button.textContent = verb;
      button.addEventListener("click", () => {
        settle(id, isKept);
        const next = element.querySelector("button");
        if (next) next.focus();
        else left();
      });
      buttons.append(button);
    }
    entry.append(says, buttons);
    return entry;
  }

  return {
    element,
    show(list) {
      element.hidden = !list.length;
      element.replaceChildren(...list.map(row));
    },
  };
}
