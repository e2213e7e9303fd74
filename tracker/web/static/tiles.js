// One tile per stream: a small picture, its state and figures. The tile that is chosen is shown large.

import { make, text } from "./dom.js";
import { colourOf } from "./palette.js";
import { fetchLast } from "./pictures.js";
import { pathOf, stroke } from "./outline.js";
import { milliseconds } from "./wording.js";

const WINDOW_MS = 2000; // over which frames a second are counted
const NO_BREAK = "\u00a0"; // a space at which no line ends
const WIDTH = 320; // of a tile's picture

export class Tiles {
  constructor(list, link, choose) {
    this.list = list;
    this.link = link;
    this.choose = choose;
    this.tiles = new Map();
    this.filling = false;
    this.seen = new IntersectionObserver((entries) => this.noteVisible(entries));
    this.onlook = () => {};
  }

  update(records) {
    const names = new Set(records.map(({ stream }) => stream));
    for (const [name, tile] of this.tiles) {
      if (names.has(name)) continue;
      this.seen.unobserve(tile.element);
      tile.element.remove();
      this.tiles.delete(name);
    }
    for (const record of records) {
      if (!this.tiles.has(record.stream)) this.add(record.stream);
      this.tiles.get(record.stream).say(record);
    }
  }

  /** Nothing is known of any stream until the next status. */
  silence() {
    for (const tile of this.tiles.values()) tile.silence();
  }

  add(name) {
    const tile = new Tile(name, () => this.choose(name));
    this.tiles.set(name, tile);
    this.list.append(tile.element);
    this.seen.observe(tile.element);
  }

  noteVisible(entries) {
    for (const { target, isIntersecting } of entries) {
      const tile = this.tiles.get(target.dataset.stream);
      if (tile) tile.visible = isIntersecting;
    }
    this.onlook();
  }

  /** Streams whose tiles are on screen, with the width of their pictures. */
  looks() {
    const width = Math.round(200 * window.devicePixelRatio);
    const visible = [...this.tiles.values()].filter((tile) => tile.visible);
    return Object.fromEntries(visible.map((tile) => [tile.name, Math.min(width, WIDTH)]));
  }

  /** Asks for the last frames of streams of which no picture comes, one after the other. */
  async fillEmpty() {
    if (this.filling) return;
    this.filling = true;
    for (const tile of [...this.tiles.values()]) if (tile.lacksPicture) await tile.fill(this.link);
    this.filling = false;
  }

  mark(selected) {
    for (const [name, tile] of this.tiles) tile.button.setAttribute("aria-current", name === selected);
  }
}

class Tile {
  constructor(name, choose) {
    this.name = name;
    this.visible = false;
    this.times = []; // of pictures, ms
    this.latencyS = null;
    this.record = null;
    this.filled = false; // some picture is shown
    this.askedFrame = null; // the newest that was buffered when one was asked for in vain
    this.canvas = make("canvas", { width: WIDTH, height: 180, "aria-hidden": "true" });
    this.state = make("span", { class: "state" });
    this.figures = make("span", { class: "figures" });
    const caption = make("span", { class: "caption" }, make("strong", {}, name), this.state, this.figures);
    this.button = make("button", { class: "tile", onclick: choose }, this.canvas, caption);
    this.element = make("li", { "data-stream": name }, this.button);
  }

  say(record) {
    this.record = record;
    text(this.state, record.state);
    this.state.dataset.state = record.state;
    text(this.figures, this.figuresOf(record).map((figure) => figure.replace(" ", NO_BREAK)).join(" · "));
    this.button.title = record.error ?? record.url;
  }

  /** A stream that sends nothing has no rate and no delay. */
  figuresOf(record) {
    const figures = record.state === "live" ? [`${this.rate().toFixed(0)} frames/s`] : [];
    if (record.state !== "live") this.latencyS = null;
    if (this.latencyS !== null) figures.push(milliseconds(this.latencyS));
    if (record.dropped) figures.push(`${record.dropped} skipped`);
    if (record.corrupt) figures.push(`${record.corrupt} damaged`);
    return figures;
  }

  silence() {
    text(this.state, "no connection");
    this.state.dataset.state = "unknown";
    text(this.figures, "");
    this.latencyS = null;
  }

  rate() {
    const now = performance.now();
    this.times = this.times.filter((time) => now - time < WINDOW_MS);
    return (this.times.length * 1000) / WINDOW_MS;
  }

  get lacksPicture() {
    const newest = this.record?.buffer.newest ?? null;
    return this.visible && !this.filled && newest !== null && newest !== this.askedFrame;
  }

  async fill(link) {
    this.askedFrame = this.record.buffer.newest;
    const picture = await fetchLast(link, this.name, WIDTH).catch(() => null); // the state says why there is none
    if (picture && !this.filled) this.draw(picture);
    picture?.bitmap.close();
  }

  /** A picture as it came. */
  show(picture, latencyS) {
    this.times.push(performance.now());
    this.latencyS = latencyS;
    this.draw(picture);
  }

  draw(picture) {
    this.filled = true;
    const [w, h] = picture.size;
    const height = Math.round((WIDTH * h) / (w * picture.aspect));
    if (this.canvas.height !== height) this.canvas.height = height;
    const context = this.canvas.getContext("2d", { alpha: false });
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.drawImage(picture.bitmap, 0, 0, WIDTH, height);
    const scale = height / h;
    context.setTransform(WIDTH / w, 0, 0, scale, 0, 0);
    for (const { object, outline } of picture.tracks?.objects ?? []) {
      stroke(context, pathOf(outline), colourOf(object), { width: 1.5, scale });
    }
  }
}
