// Zones and lines of the stream on screen: drawn on the picture with their counts, set, edited and removed.

import { ask } from "./asking.js";
import { $, make, show, text, toast } from "./dom.js";
import { Form } from "./form.js";
import { trace } from "./shape.js";
import { byFingers } from "./wording.js";

const NEAR_PX = 12; // of a vertex that is to be moved
const MIDDLE = 4; // button that moves a zoomed picture, among those that are down
const NARROW = matchMedia("(max-width: 56rem)"); // the form is below the picture, not beside it

export class Zones {
  /** `stream()` says which one is on screen, `cursor()` where the keyboard's is; `changed()` is told of a draft, `begun()` of a new one. */
  constructor(link, view, stream, { cursor, changed, begun }) {
    Object.assign(this, { link, view, stream, cursor, told: changed, begun });
    this.zones = [];
    this.draft = null; // { line, points, settings, moving, edited }; `edited`: the zone as it was when its editing began
    this.form = new Form($("zone-form"));
    view.under.push((context, scale) => this.draw(context, scale)); // no name hides an object's
    view.layers.push((context, scale) => this.draft && this.drawDraft(context, scale));
    // Before the picture's own handlers: while a zone is drawn, a click is a vertex and no prompt.
    for (const kind of ["pointerdown", "pointermove", "pointerup", "pointercancel"]) {
      view.canvas.addEventListener(kind, (event) => this.draft && this.point(event, kind), { capture: true });
    }
    view.canvas.addEventListener("keydown", (event) => this.draft && this.key(event), { capture: true });
    $("zone-line").addEventListener("click", () => this.begin(true));
    $("zone-polygon").addEventListener("click", () => this.begin(false));
    $("zone-leave").addEventListener("click", () => this.leave());
    $("zone-points").addEventListener("input", (event) => this.type(event.target.value));
    $("zone-form").addEventListener("submit", (event) => (event.preventDefault(), this.save()));
  }

  async load() {
    const stream = this.stream();
    if (!stream) return this.take([]);
    try {
      const { zones } = await this.link.call("zones.list", { stream });
      if (stream === this.stream()) this.take(zones);
    } catch (error) {
      if (!["unknown_op", "unavailable", "unknown_stream"].includes(error.code)) toast(error.message, true);
    }
  }

  take(zones) {
    const shapes = JSON.stringify(zones.map(({ stream, zone, settings }) => [stream, zone, settings]));
    if (shapes === this.shapes) return; // the list is left alone, and who has the focus in it
    this.shapes = shapes;
    this.zones = zones;
    show($("no-zones"), !zones.length);
    $("zones").replaceChildren(...zones.map((zone) => this.item(zone)));
    this.counts = new Map(zones.map(({ zone }, k) => [zone, $("zones").children[k].querySelector(".counts")]));
    this.compareDraft();
    this.view.draw();
  }

  item({ zone, counts, settings }) {
    const button = (words, onclick) => make("button", { onclick, "aria-label": `${words} zone ${zone}` }, words);
    return make(
      "li",
      { "data-zone": zone },
      make("strong", {}, zone),
      make("span", { class: "counts facts" }, said(counts)),
      make("div", { class: "actions" }, button("Edit", () => this.edit(zone, settings)), button("Remove", () => this.remove(zone))),
    );
  }

  /** Counts as they come with a picture's tracks; a zone that is not known yet was set by somebody else. */
  count(zones) {
    const unknown = Object.keys(zones ?? {}).some((name) => !this.counts?.has(name));
    if (unknown && !this.asking) {
      this.asking = true;
      this.load().finally(() => (this.asking = false));
    }
    for (const [name, counts] of Object.entries(zones ?? {})) {
      const element = this.counts?.get(name);
      if (element) text(element, said(counts));
    }
  }

  // -------------------------------------------------------------------------------------------- drawing and editing

  begin(line, name = "", points = [], settings = {}, edited = null) {
    if (!this.view.picture) return toast("there is no picture to draw on yet");
    this.begun();
    this.draft = { line, points, settings, moving: null, edited };
    $("zone-form").elements.zone.value = name;
    $("zone-form").elements.zone.readOnly = edited !== null;
    const drawing = line ? "Click where the line begins and where it ends." : "Click the corners, one after the other.";
    text($("zone-hint"), edited ? "Drag its corners." : drawing);
    this.form.begin();
    show($("zone-form"), true);
    this.changed();
    this.told();
    if (!NARROW.matches) $("zone-form").scrollIntoView({ block: "nearest" });
    this.view.canvas.focus({ preventScroll: !NARROW.matches });
  }

  edit(name, settings) {
    const [w, h] = this.view.picture?.size ?? [1, 1];
    const unit = settings.unit === "fraction" ? [w, h] : [1, 1];
    const points = (settings.line ?? settings.polygon).map(([x, y]) => [x * unit[0], y * unit[1]]);
    const { labels, min_area, share, at, loiter_s } = settings;
    this.begin(Boolean(settings.line), name, points, { labels, min_area, share, at, loiter_s }, settings);
  }

  /** Says where somebody else has changed what is being edited here. */
  compareDraft() {
    const edited = this.draft?.edited;
    if (!edited) return;
    const name = $("zone-form").elements.zone.value;
    const now = this.zones.find(({ zone }) => zone === name);
    if (!now) text($("zone-hint"), "Somebody else has removed it meanwhile; Save sets it again.");
    else if (JSON.stringify(now.settings) !== JSON.stringify(edited))
      text($("zone-hint"), "Somebody else has changed it meanwhile; Save replaces that.");
  }

  leave() {
    if (!this.draft) return;
    this.draft = null;
    this.form.end();
    show($("zone-form"), false);
    this.view.draw();
    this.told();
  }

  /** What is to be done on the picture. */
  get hint() {
    const { line, edited } = this.draft;
    if (byFingers()) return edited ? "Drag the corners, then Save." : `Tap ${line ? "both ends of the line" : "the corners"}, then Save.`;
    if (edited) return "Drag the corners, then save; Esc leaves it as it was.";
    const where = line ? "where the line begins and where it ends" : "the zone's corners";
    return `Mark ${where}, by clicks or arrows and Space; Enter saves, Esc leaves.`;
  }

  point(event, kind) {
    if (event.button === 1 || event.buttons & MIDDLE) return;
    event.stopImmediatePropagation();
    const at = this.view.sourceOf(event);
    if (!at || !event.isPrimary) return;
    const { draft } = this;
    if (kind === "pointerdown") {
      if (!this.view.isOn(event)) return;
      this.view.canvas.setPointerCapture(event.pointerId); // it may be let go anywhere
      draft.moving = this.near(at);
      if (draft.moving === null && !(draft.line && draft.points.length === 2)) draft.moving = draft.points.push(at) - 1;
    } else if (kind === "pointercancel" || (kind === "pointermove" && !event.buttons)) {
      draft.moving = null; // let go where nobody was told
    } else if (draft.moving !== null) {
      draft.points[draft.moving] = at;
      if (kind === "pointerup") draft.moving = null;
    }
    this.changed();
  }

  near([x, y]) {
    const reach = (NEAR_PX * window.devicePixelRatio) / this.view.scale;
    const found = this.draft.points.findIndex(([px, py]) => Math.hypot(px - x, py - y) < reach);
    return found < 0 ? null : found;
  }

  key(event) {
    if (!["Enter", "Escape", "Backspace", " "].includes(event.key)) return;
    event.stopImmediatePropagation();
    event.preventDefault();
    if (event.key === "Escape") this.leave();
    else if (event.key === " ") this.mark(this.cursor());
    else if (event.key === "Enter") $("zone-form").requestSubmit();
    else this.draft.points.pop(), this.changed();
  }

  /** A further corner at the keyboard's cursor. */
  mark(at) {
    const { line, points } = this.draft;
    if (!at || (line && points.length === 2)) return;
    points.push([...at]);
    this.changed();
  }

  /** Corners as numbers, for those who do not point. */
  type(words) {
    const numbers = words.split(/[\s,]+/).filter(Boolean).map(Number);
    if (!this.draft || numbers.length % 2 || numbers.some(Number.isNaN)) return;
    this.draft.points = numbers.flatMap((x, k) => (k % 2 ? [] : [[x, numbers[k + 1]]]));
    this.view.draw();
  }

  changed() {
    $("zone-points").value = this.draft.points.map(([x, y]) => `${Math.round(x)},${Math.round(y)}`).join(" ");
    this.view.draw();
  }

  async save() {
    const { line, points, settings, edited } = this.draft;
    const zone = $("zone-form").elements.zone.value.trim();
    if (!edited && this.zones.some((other) => other.zone === zone)) {
      return this.form.refuse(new Error(`there is a zone ${zone}: edit that one, or choose another name`));
    }
    const shape = { [line ? "line" : "polygon"]: points.map(([x, y]) => [Math.round(x), Math.round(y)]) };
    const wanted = { stream: this.stream(), zone, ...settings, ...shape };
    if (await this.form.send((late) => this.link.call("zones.set", wanted, late))) this.leave();
    this.load();
  }

  async remove(zone) {
    await ask(this.link, "zones.remove", { stream: this.stream(), zone });
    this.load();
  }

  draw(context, scale) {
    const [w, h] = this.view.picture.size;
    const edited = this.draft?.edited ? $("zone-form").elements.zone.value : null; // its draft is drawn instead
    for (const { zone, settings } of this.zones.filter((other) => other.zone !== edited)) {
      const unit = settings.unit === "fraction" ? [w, h] : [1, 1];
      const points = (settings.line ?? settings.polygon).map(([x, y]) => [x * unit[0], y * unit[1]]);
      trace(context, points, Boolean(settings.line), scale, zone, [w, h]);
    }
  }

  drawDraft(context, scale) {
    trace(context, this.draft.points, this.draft.line, scale, "", this.view.picture.size);
    context.fillStyle = "#fff";
    for (const [x, y] of this.draft.points) context.fillRect(x - 4 / scale, y - 4 / scale, 8 / scale, 8 / scale);
  }
}

function said(counts) {
  if (counts.inside === undefined) return `${counts.to_left} to the left, ${counts.to_right} to the right`;
  return `${counts.inside.length} inside, ${counts.entered} entered, ${counts.left} left`;
}
