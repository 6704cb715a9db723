// <mn-yaml>: the draft as text, both ways. The form with a textarea that the server put inside stays until the editor
// stands, and stays for good where it cannot be loaded. In a shadow root, since CodeMirror brings styles of its own and
// the page allows none; there they are adopted style sheets.
//
// Typing is sent 600 ms after the last key. A text that cannot be read is not taken by the server: it stays here, and in
// this browser, until it can be. What others change comes in without moving what is being typed.
import { yaml } from "@codemirror/lang-yaml";
import { HighlightStyle, syntaxHighlighting } from "@codemirror/language";
import { lintGutter, setDiagnostics } from "@codemirror/lint";
import { EditorState, Transaction } from "@codemirror/state";
import { tags } from "@lezer/highlight";
import { EditorView, basicSetup } from "codemirror";
import { openSocket } from "../graph/socket.js";
import { notStored } from "../js/storage_words.js";
import { Sync, replacement } from "./sync.js";

const IDLE_MS = 600;
const AGAIN_MS = 3000;

const look = EditorView.theme({
  "&": { color: "var(--ink)", backgroundColor: "var(--surface)", fontSize: "0.8125rem", height: "100%" },
  ".cm-content": { fontFamily: "var(--mono)", caretColor: "var(--ink)" },
  ".cm-cursor": { borderLeftColor: "var(--ink)" },
  ".cm-scroller": { fontFamily: "var(--mono)", overflow: "auto", lineHeight: "1.5" },
  ".cm-gutters": { backgroundColor: "var(--sunken)", color: "var(--ink-soft)", border: "none" },
  ".cm-activeLine, .cm-activeLineGutter": { backgroundColor: "color-mix(in srgb, var(--hover) 45%, transparent)" },
  "&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground": { backgroundColor: "var(--accent-wash)" },
  "&.cm-focused": { outline: "2px solid var(--accent)", outlineOffset: "-2px" },
  ".cm-panels": { backgroundColor: "var(--sunken)", color: "var(--ink)" },
  ".cm-tooltip": { backgroundColor: "var(--surface)", color: "var(--ink)", border: "1px solid var(--line)" },
  ".cm-foldPlaceholder": { backgroundColor: "var(--hover)", border: "none", color: "var(--ink-soft)" },
});
const colours = HighlightStyle.define([
  { tag: [tags.propertyName, tags.definition(tags.propertyName)], color: "var(--accent)" },
  { tag: [tags.string, tags.special(tags.string)], color: "var(--done)" },
  { tag: [tags.number, tags.bool, tags.null, tags.keyword], color: "var(--doubt)" },
  { tag: [tags.comment, tags.lineComment, tags.meta], color: "var(--ink-soft)" },
]);

// Typing over a selection, left to the browser, keeps the colour of what was there as an inline style; the page's policy
// forbids those.
function typedOver(event, view) {
  if (event.inputType !== "insertText" || event.data === null || view.composing || view.state.readOnly) return false;
  if (view.state.selection.ranges.every((range) => range.empty)) return false;
  event.preventDefault();
  view.dispatch(view.state.replaceSelection(event.data), { userEvent: "input.type", scrollIntoView: true });
  return true;
}

class Yaml extends HTMLElement {
  connectedCallback() {
    if (this.view) return;
    const area = this.querySelector("textarea");
    this.readonly = "readonly" in this.dataset;
    this.hash = this.dataset.hash;
    this.keptAs = `mn-yaml-${this.dataset.draft || this.dataset.source}`;
    this.sync = new Sync(area.value);
    const place = this.shadowRoot ?? this.attachShadow({ mode: "open" });
    this.view = new EditorView({
      parent: place,
      root: place,
      state: EditorState.create({
        doc: area.value,
        extensions: [
          basicSetup,
          yaml(),
          lintGutter(),
          look,
          syntaxHighlighting(colours),
          EditorView.lineWrapping,
          EditorState.readOnly.of(this.readonly),
          EditorView.domEventHandlers({ beforeinput: typedOver }),
          EditorView.contentAttributes.of({ "aria-label": "The blueprint as YAML", "data-testid": "yaml-content", tabindex: "0" }),
          EditorView.updateListener.of((update) => this.updated(update)),
        ],
      }),
    });
    this.gone = new AbortController();
    const { signal } = this.gone;
    document.getElementById("yaml-problems")?.addEventListener("click", (event) => this.jump(event), { signal });
    document.addEventListener("mn:applied", (event) => event.detail?.origin === "yaml" || this.fetch(), { signal });
    window.addEventListener("online", () => this.later(0), { signal });
    window.addEventListener("beforeunload", () => this.keep(), { signal });
    if (!this.readonly) this.bringBack();
    this.fetch();
    if (this.dataset.draft) {
      this.socket = openSocket({
        draft: this.dataset.draft,
        after: () => this.dataset.version,
        hear: (message) => message.type === "ops" && this.fetch(),
      });
    }
    this.dataset.mounted = "true";
  }

  disconnectedCallback() {
    this.keep();
    clearTimeout(this.timer);
    this.gone?.abort();
    this.socket?.close();
    this.view?.destroy();
    this.view = null;
  }

  get text() {
    return this.view.state.doc.toString();
  }

  updated(update) {
    if (!update.docChanged || update.transactions.some((one) => one.annotation(Transaction.remote))) return;
    this.sync.typed(update.changes);
    this.mark("saving");
    this.later(IDLE_MS);
  }

  later(ms) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.send(), ms);
  }

  mark(state, words) {
    this.dataset.idle = String(state !== "saving");
    document.dispatchEvent(new CustomEvent("mn:saving", { detail: { state, words } }));
  }

  async fetch() {
    try {
      const answer = await fetch(this.dataset.source, { headers: { Accept: "application/json" } });
      if (answer.ok) this.heard(await answer.json());
    } catch {
      // Without a network the text stays as it is; the socket says when there is one again.
    }
  }

  /** The server's text, with what is wrong with it. */
  heard(said) {
    if (!this.view) return;
    if (Number(said.version) < Number(this.dataset.version)) return;
    const changes = this.sync.arrived(said.text);
    if (changes) {
      this.view.dispatch({ changes, annotations: [Transaction.remote.of(true), Transaction.addToHistory.of(false)] });
    }
    this.hash = said.hash;
    this.dataset.version = said.version;
    if (!this.sync.isDirty) this.show(said.problems);
  }

  async send() {
    if (!this.view || this.readonly) return;
    if (this.isSending) return this.later(IDLE_MS);
    if (!this.sync.isDirty) return this.mark("saved");
    const text = this.text;
    this.isSending = true;
    let said;
    let reason = "";
    try {
      const answer = await fetch(this.dataset.source, {
        method: "POST",
        headers: { Accept: "application/json", "X-CSRFToken": document.querySelector("meta[name=csrf-token]")?.content ?? "", "Content-Type": "application/x-www-form-urlencoded" },
        body: new URLSearchParams({ text, old_hash: this.hash }),
      });
      reason = notStored(answer.headers.get("MN-Problem"));
      if (!answer.ok) throw new Error(String(answer.status));
      said = await answer.json();
    } catch {
      this.keep();
      if (reason) this.mark("failed", reason);
      else this.mark("offline");
      this.later(AGAIN_MS);
      return;
    } finally {
      this.isSending = false;
    }
    if (!this.view) return;
    if (said.refused && said.stale) {
      this.heard(said);
      this.later(0);
    } else if (said.refused) {
      this.keep();
      this.mark("failed", "not saved");
      this.say(`${said.refused} What you typed is kept here.`);
      this.show(said.problems);
    } else {
      this.sync.sent(said.text, text === this.text ? said.text : this.text);
      // A text that came back otherwise than it was sent is what counts.
      if (text === this.text && said.text !== text) {
        const changes = replacement(text, said.text);
        this.view.dispatch({ changes, annotations: [Transaction.remote.of(true)] });
      }
      this.hash = said.hash;
      this.dataset.version = said.version;
      this.say("");
      this.show(said.problems);
      localStorage.removeItem(this.keptAs);
      this.mark("saved");
      document.dispatchEvent(
        new CustomEvent("mn:applied", { detail: { version: said.version, patch: said.patch, origin: "yaml" } }),
      );
      if (this.sync.isDirty) this.later(IDLE_MS);
    }
  }

  /** What is not saved stays in this browser. */
  keep() {
    if (!this.view || this.readonly || !this.sync.isDirty) return;
    try {
      localStorage.setItem(this.keptAs, JSON.stringify({ base: this.sync.base, text: this.text }));
    } catch {
      // A full or forbidden store: the text is still on the page.
    }
  }

  bringBack() {
    let kept = null;
    try {
      kept = JSON.parse(localStorage.getItem(this.keptAs) ?? "null");
    } catch {
      localStorage.removeItem(this.keptAs);
    }
    if (!kept || typeof kept.text !== "string" || kept.text === this.sync.base) return;
    const now = this.sync.base;
    const mine = new Sync(String(kept.base ?? now));
    mine.typed(mine.pending.constructor.of([replacement(mine.base, kept.text)], mine.base.length));
    const theirs = mine.arrived(now);
    // The text as it was left, brought up to what the draft has become since.
    const text = theirs ? theirs.apply(EditorState.create({ doc: kept.text }).doc).toString() : kept.text;
    this.view.dispatch({ changes: replacement(this.text, text) });
    this.say("This is what you typed last time and could not be saved.");
  }

  say(words) {
    const place = document.getElementById("yaml-said");
    if (!place) return;
    place.hidden = !words;
    place.textContent = words;
  }

  show(problems) {
    const { doc } = this.view.state;
    const marks = problems
      .filter((problem) => problem.line && problem.line <= doc.lines)
      .map((problem) => {
        const line = doc.line(problem.line);
        const from = line.from + (line.text.length - line.text.trimStart().length);
        return { from, to: Math.max(from, line.to), severity: problem.level === "error" ? "error" : "warning", message: `${problem.message} ${problem.fix}` };
      })
      .sort((a, b) => a.from - b.from);
    this.view.dispatch(setDiagnostics(this.view.state, marks));
    const list = document.getElementById("yaml-problems");
    list?.replaceChildren(...(problems.length ? problems.map(entry) : [nothing()]));
  }

  jump(event) {
    const link = event.target.closest("[data-line]");
    if (!link) return;
    event.preventDefault();
    const line = this.view.state.doc.line(Math.min(Number(link.dataset.line), this.view.state.doc.lines));
    this.view.dispatch({ selection: { anchor: line.from }, effects: EditorView.scrollIntoView(line.from, { y: "center" }) });
    this.view.focus();
  }
}

function entry(problem) {
  const item = document.createElement("li");
  if (problem.line) {
    const link = document.createElement("a");
    link.href = "#yaml";
    link.dataset.line = problem.line;
    link.textContent = `Line ${problem.line}`;
    item.append(link, " ");
  }
  const what = document.createElement("b");
  what.textContent = problem.message;
  item.append(what, ` ${problem.fix}`);
  return item;
}

function nothing() {
  const item = document.createElement("li");
  item.className = "quiet";
  item.textContent = "Nothing to fix.";
  return item;
}

customElements.define("mn-yaml", Yaml);
