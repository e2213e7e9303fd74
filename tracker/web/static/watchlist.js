// The watch list: looks that are waited for on all streams, and who came near them.

import { ask } from "./asking.js";
import { $, make, show, text, toast } from "./dom.js";
import { Form } from "./form.js";
import { thumbnail } from "./thumbnail.js";
import { moment } from "./wording.js";

const HITS = 5; // shown of each, the newest
const MOST_WATCHED = 512; // whose hits are kept: twice as many as can be waited for
const THRESHOLD = 0.9;

export class WatchList {
  /** `go(stream)` shows a stream. */
  constructor(link, go) {
    Object.assign(this, { link, go });
    this.watched = [];
    this.hits = new Map(); // watch -> looks_like events, the newest first
    this.chosen = null; // { stream, object }
    this.form = new Form($("watch-form"));
    $("watch-begin").addEventListener("click", () => this.begin());
    $("watch-leave").addEventListener("click", () => this.leave());
    $("watch-form").addEventListener("submit", (event) => (event.preventDefault(), this.save()));
  }

  /** The object that is selected on the page, or null: what would be added. */
  select(stream, object) {
    this.chosen = object === null ? null : { stream, object };
    $("watch-begin").disabled = !this.chosen;
    if (!$("watch-form").hidden) this.leave();
  }

  async load() {
    try {
      const { watched } = await this.link.call("watch.list");
      this.take(watched);
    } catch (error) {
      if (!["unknown_op", "unavailable"].includes(error.code)) toast(error.message, true);
    }
  }

  take(watched) {
    const shown = JSON.stringify([watched.map(({ watch }) => [watch, this.hits.get(watch)])]);
    if (shown === this.shown) return; // the list is left alone, and who has the focus in it
    this.shown = shown;
    this.watched = watched;
    show($("no-watched"), !watched.length);
    $("watched").replaceChildren(...watched.map((one) => this.item(one)));
  }

  /** An event of any kind; it may come twice, live and from the history. */
  happened(event) {
    if (event.event !== "looks_like") return;
    const kept = this.hits.get(event.watch) ?? [];
    if (kept.some((other) => other.time === event.time && other.stream === event.stream && other.object === event.object)) return;
    kept.push(event);
    kept.sort((a, b) => b.time - a.time);
    this.hits.set(event.watch, kept.slice(0, HITS));
    if (this.hits.size > MOST_WATCHED) this.hits.delete(this.hits.keys().next().value);
    if (this.watched.some(({ watch }) => watch === event.watch)) this.take(this.watched);
    else this.load(); // somebody else added it
  }

  item(one) {
    // A number is given again once it is free: what was seen before the look was added is another look's.
    const hits = (this.hits.get(one.watch) ?? []).filter(({ time }) => time >= one.time);
    const facts = `from ${Math.round(one.threshold * 100)} % on · ${hits.length ? "seen" : "not seen yet"}`;
    return make(
      "li",
      { class: "watched", "data-watch": one.watch },
      one.thumbnail ? thumbnail(one.thumbnail) : make("span", { class: "thumbnail" }),
      make("div", { class: "what" }, make("strong", { class: "name" }, one.name), make("p", { class: "facts" }, facts)),
      make("button", { onclick: () => this.remove(one.watch), "aria-label": `Wait no longer for ${one.name}` }, "Remove"),
      make("ul", { class: "hits" }, ...hits.map((hit) => this.hit(hit))),
    );
  }

  hit(event) {
    const when = new Date(event.time * 1000);
    const who = `${event.stream} ${event.object} ${event.label ?? ""}`.trim();
    return make(
      "li",
      {},
      make("button", { class: "hit", onclick: () => this.go(event.stream) }, make("strong", {}, who)),
      make("span", { class: "facts" }, `${Math.round(event.score * 100)} % · `, make("time", { datetime: when.toISOString() }, moment(when))),
    );
  }

  // ---------------------------------------------------------------------------------------------- what is asked for

  begin() {
    const { look, threshold } = $("watch-form").elements;
    look.value = "";
    threshold.value = Math.round(THRESHOLD * 100);
    text($("watch-hint"), `Tell when something looks like ${this.chosen.stream} ${this.chosen.object}.`);
    this.form.begin();
    show($("watch-form"), true);
    look.focus();
  }

  leave() {
    this.form.end();
    show($("watch-form"), false);
  }

  async save() {
    const { look, threshold } = $("watch-form").elements;
    const wanted = { ...this.chosen, name: look.value.trim(), threshold: threshold.value / 100 };
    if (await this.form.send((late) => this.link.call("watch.add", wanted, late))) this.leave();
    this.load();
  }

  async remove(watch) {
    await ask(this.link, "watch.remove", { watch });
    this.load();
  }
}
