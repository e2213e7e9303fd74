// What happened, the newest first: told as it happens, and from the daemon's history where it keeps one.

import { $, make, show } from "./dom.js";
import { moment, sentence } from "./wording.js";

const KEPT = 200;
const MOST_KNOWN = 10 * KEPT; // events that are not told twice
const QUIET = new Set(["segment_progress"]);

export class Events {
  /** `told(event)` is called for each event, once. */
  constructor(list, told) {
    Object.assign(this, { list, told });
    this.known = new Set();
  }

  add(event) {
    const key = [event.stream, event.event, event.object, event.zone, event.watch, event.frame, event.time].join();
    if (QUIET.has(event.event) || this.known.has(key)) return;
    this.known.add(key);
    show($("no-events"), false);
    if (this.known.size > MOST_KNOWN) this.known.delete(this.known.values().next().value);
    this.told(event);
    const newer = [...this.list.children].find((item) => Number(item.dataset.time) <= event.time);
    this.list.insertBefore(item(event), newer ?? null);
    if (this.list.children.length > KEPT) this.list.lastElementChild.remove();
  }

  /** The history behind the live events; a daemon that keeps none answers `unknown_op`. */
  async load(link, stream) {
    try {
      const { events } = await link.call("history.list", { stream, limit: KEPT });
      events.forEach((event) => this.add(event));
    } catch (error) {
      if (error.code !== "unknown_op" && error.code !== "unavailable") throw error;
    }
  }
}

function item(event) {
  const time = new Date(event.time * 1000);
  return make(
    "li",
    { "data-time": event.time },
    make("time", { datetime: time.toISOString() }, moment(time)),
    make("span", { class: "stream" }, event.stream),
    make("span", {}, sentence(event)),
  );
}
