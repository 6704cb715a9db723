// The box of things to fix. Entries that look as before are not touched, so nobody loses the place they are at.
import { token } from "./csrf.js";
import { arrange, elementOf } from "./patch_list.js";

/** news: what keeps the page up to date; say: a sentence for the person; elsewhere: where the keyboard goes when
 * nothing is left to fix. */
export function fixList(box, { news, say, elsewhere }) {
  const fold = box.querySelector("[data-fixes]");
  const list = box.querySelector(".fix-entries");
  const said = box.querySelector("[data-testid=fix-said]");
  const entries = () => [...list.children];
  const fixes = () => [...list.querySelectorAll("[data-action=fix]")];
  const under = new Set();

  /** Show what the server told. at: the button that was pressed, when this is the answer to it. */
  function put({ entries: changed, list: order, head }, at = -1) {
    const known = new Map(entries().map((entry) => [entry.dataset.key, entry]));
    const here = document.activeElement?.closest?.(".fix-entry");
    const where = here ? [...here.querySelectorAll("a, button")].indexOf(document.activeElement) : -1;
    for (const [key, html] of Object.entries(changed)) known.set(key, elementOf(html));
    const keys = order ?? entries().map((entry) => entry.dataset.key);
    const wanted = keys.map((key) => known.get(key)).filter(Boolean);
    // Somebody is at an entry that others have mended: it stays until they leave, so that no key meets another one.
    if (here && list.contains(here) && at < 0 && !keys.includes(here.dataset.key)) {
      here.dataset.mended = "true";
      wanted.splice(entries().indexOf(here), 0, here);
    }
    arrange(list, wanted);
    box.querySelector("summary").innerHTML = head;
    show();
    if (!here || list.contains(document.activeElement)) return;
    const fresh = wanted.includes(known.get(here.dataset.key)) ? known.get(here.dataset.key) : null;
    const next = fresh?.querySelectorAll("a, button")[where] ?? fixes()[at] ?? fixes().at(-1) ?? (fold.hidden ? elsewhere() : box.querySelector("summary"));
    next?.focus();
  }

  function show() {
    fold.hidden = !list.children.length;
    box.querySelector("[data-testid=nothing-to-fix]").hidden = !fold.hidden;
  }

  list.addEventListener("focusout", (event) => {
    const entry = event.target.closest(".fix-entry");
    if (!entry?.dataset.mended || entry.contains(event.relatedTarget)) return;
    entry.remove();
    show();
  });

  async function mend(form, button) {
    const at = fixes().indexOf(button);
    try {
      const body = new URLSearchParams(new FormData(form));
      body.set("after", news.shown);
      const answer = await fetch(form.action, { method: "POST", body, headers: { Accept: "application/json", "X-CSRFToken": token() } });
      const told = await answer.json();
      if (!answer.ok) throw new Error(told.message ?? told.detail ?? `The server answered ${answer.status}.`);
      news.put(told, at);
      tell(told.said);
      document.dispatchEvent(new CustomEvent("mn:applied", { detail: { version: told.version, patch: told.patch, origin: "fix" } }));
    } catch (error) {
      tell(error instanceof TypeError ? "The server cannot be reached just now, so nothing was mended. Press it again later." : error.message);
    }
  }

  function tell(words) {
    said.textContent = words;
    say(words);
  }

  list.addEventListener("submit", (event) => {
    event.preventDefault();
    const { key } = event.target.closest(".fix-entry").dataset;
    // Pressed twice is meant once, also while the first waits for its turn.
    if (under.has(key)) return;
    under.add(key);
    news.alone(() => mend(event.target, event.submitter)).finally(() => under.delete(key));
  });
  return { put };
}
