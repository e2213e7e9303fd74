// The large picture: one canvas, on which picture and outlines are drawn together, so that they cannot part.

import { shortened } from "./dom.js";
import { colourOf, dashOf } from "./palette.js";
import { cornerOf, fill, pathOf, stroke } from "./outline.js";

const MAX_ZOOM = 16;
const EDGE_PX = 12;
const inside = (share) => Math.min(Math.max(share, 0), 1);

export class View {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
    this.picture = null;
    this.selected = null; // object id
    this.hovered = null;
    this.under = []; // functions (context, scale) that draw in source pixels beneath the objects,
    this.layers = []; // and on top
    this.zoom = 1;
    this.centre = [0.5, 0.5]; // of the source, at the canvas's middle
    this.drawn = 0;
    new ResizeObserver(() => this.resize()).observe(canvas);
  }

  resize() {
    const ratio = window.devicePixelRatio;
    const width = Math.max(1, Math.round(this.canvas.clientWidth * ratio));
    const height = Math.max(1, Math.round(this.canvas.clientHeight * ratio));
    if (this.canvas.width === width && this.canvas.height === height) return;
    this.canvas.width = width;
    this.canvas.height = height;
    this.draw();
  }

  /** Width in device pixels that the whole source would take up. */
  get sourceWidth() {
    const [w] = this.picture?.size ?? [this.canvas.width];
    return Math.ceil(Math.min(w * this.across, 16384)) || 320;
  }

  /** Device pixels per source pixel, downwards, */
  get scale() {
    if (!this.picture) return 1;
    const { size: [w, h], aspect } = this.picture;
    return Math.min(this.canvas.width / (w * aspect), this.canvas.height / h) * this.zoom;
  }

  /** and across: pixels need not be square. */
  get across() {
    return this.scale * (this.picture?.aspect ?? 1);
  }

  /** Where source pixel (0, 0) is on the canvas. */
  get origin() {
    const [w, h] = this.picture.size;
    return [
      this.canvas.width / 2 - this.centre[0] * w * this.across,
      this.canvas.height / 2 - this.centre[1] * h * this.scale,
    ];
  }

  show(picture) {
    if (this.picture?.stream !== picture.stream) this.fit();
    if (this.picture && this.picture.bitmap !== picture.bitmap) this.picture.bitmap.close();
    this.picture = picture;
    this.draw();
    this.drawn += 1;
    this.canvas.dataset.frame = picture.frame;
    this.shape(picture);
  }

  /** Where there is room for any height the canvas takes the picture's shape. */
  shape({ size: [w, h], aspect }) {
    const shape = `${w * aspect} / ${h}`;
    if (shape === this.shaped) return;
    this.shaped = shape;
    this.canvas.parentElement.style.setProperty("--shape", shape);
  }

  clear() {
    this.picture?.bitmap.close();
    this.picture = null;
    this.fit();
    delete this.canvas.dataset.frame;
    this.draw();
  }

  draw() {
    const { context, canvas, picture } = this;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "#0b0d10";
    context.fillRect(0, 0, canvas.width, canvas.height);
    if (!picture) return;
    const { scale, origin } = this;
    const [w, h] = picture.size;
    context.imageSmoothingEnabled = scale < 4;
    context.setTransform(this.across, 0, 0, scale, ...origin);
    context.drawImage(picture.bitmap, 0, 0, w, h);
    const ratio = window.devicePixelRatio;
    for (const layer of this.under) layer(context, scale / ratio);
    for (const object of picture.tracks?.objects ?? []) this.drawObject(object, scale / ratio);
    for (const layer of this.layers) layer(context, scale / ratio);
  }

  drawObject(object, scale) {
    if (!object.outline.length) return;
    const { context } = this;
    const path = pathOf(object.outline);
    const chosen = object.object === this.selected || object.object === this.hovered;
    if (chosen) fill(context, path, colourOf(object.object), 0.3);
    stroke(context, path, colourOf(object.object), { width: chosen ? 3 : 2, scale, dash: dashOf(object.object) });
    const [x1, y1] = cornerOf(object.outline);
    this.caption(`${object.object} ${object.label ?? object.guess?.label ?? ""}`.trim(), x1, y1, object.object, scale);
  }

  caption(words, x, y, id, scale) {
    const { context, picture } = this;
    const size = 13 / scale;
    context.save();
    context.scale(1 / picture.aspect, 1); // letters are as wide as ever
    context.font = `600 ${size}px system-ui, sans-serif`;
    const said = shortened(words);
    const width = context.measureText(said).width + size * 0.7;
    const left = Math.max(0, Math.min(x * picture.aspect, picture.size[0] * picture.aspect - width)); // it stays on the picture
    const top = Math.max(0, y - size * 1.5);
    context.fillStyle = "rgb(11 13 16 / 78%)";
    context.fillRect(left, top, width, size * 1.4);
    context.fillStyle = colourOf(id);
    context.fillRect(left, top, size * 0.25, size * 1.4);
    context.fillStyle = "#fff";
    context.textBaseline = "middle";
    context.fillText(said, left + size * 0.45, top + size * 0.72);
    context.restore();
  }

  /** The source pixel under a pointer event, kept inside the frame; null without a picture. */
  sourceOf(event) {
    if (!this.picture) return null;
    const [x, y] = this.placeOf(event);
    const [w, h] = this.picture.size;
    return [Math.min(Math.max(x, 0), w - 0.01), Math.min(Math.max(y, 0), h - 0.01)];
  }

  /** Where a pointer event is in source pixels, beside the picture as well. */
  placeOf(event) {
    const bounds = this.canvas.getBoundingClientRect();
    const ratio = this.canvas.width / bounds.width;
    const [left, top] = this.origin;
    const x = ((event.clientX - bounds.left) * ratio - left) / this.across;
    const y = ((event.clientY - bounds.top) * ratio - top) / this.scale;
    return [x, y];
  }

  /** Whether a pointer event is on the picture, or so near its edge that the edge is meant. */
  isOn(event) {
    if (!this.picture) return false;
    const [x, y] = this.placeOf(event);
    const [w, h] = this.picture.size;
    const near = (EDGE_PX * window.devicePixelRatio) / this.scale;
    return x > -near && y > -near && x < w + near && y < h + near;
  }

  /** The source pixel in the middle of the canvas. */
  get middle() {
    const [w, h] = this.picture?.size ?? [0, 0];
    return [this.centre[0] * w, this.centre[1] * h];
  }

  /** Moves what is seen of a zoomed picture by device-independent pixels of the window. */
  pan(dx, dy) {
    if (!this.picture) return;
    const [w, h] = this.picture.size;
    const ratio = window.devicePixelRatio;
    const [right, down] = [(dx * ratio) / this.across, (dy * ratio) / this.scale];
    this.centre = [inside(this.centre[0] - right / w), inside(this.centre[1] - down / h)];
    if (this.zoom === 1) this.fit();
  }

  /** Brings a source pixel that is out of sight to the middle. */
  reveal([x, y]) {
    const [w, h] = this.picture.size;
    const { width, height } = this.canvas;
    const [left, top] = [this.origin[0] + x * this.across, this.origin[1] + y * this.scale];
    if (left < 0 || top < 0 || left > width || top > height) this.centre = [x / w, y / h];
  }

  /** The smallest of the drawn objects at a source pixel. */
  objectAt([x, y]) {
    this.context.setTransform(1, 0, 0, 1, 0, 0);
    const hits = (this.picture?.tracks?.objects ?? []).filter(
      (object) => object.outline.length && this.context.isPointInPath(pathOf(object.outline), x, y, "evenodd"),
    );
    return hits.sort((a, b) => a.area - b.area)[0]?.object ?? null;
  }

  fit() {
    this.zoom = 1;
    this.centre = [0.5, 0.5];
  }

  /** Zooms by a factor; what is at the source pixel `at` stays where it is. */
  zoomBy(factor, at) {
    if (!this.picture) return;
    const [w, h] = this.picture.size;
    const before = this.zoom;
    this.zoom = Math.min(MAX_ZOOM, Math.max(1, this.zoom * factor));
    const share = 1 - before / this.zoom;
    this.centre = [this.centre[0] + (at[0] / w - this.centre[0]) * share, this.centre[1] + (at[1] / h - this.centre[1]) * share];
    if (this.zoom === 1) this.fit();
    this.draw();
  }

  /** Brings a box to the middle, at three times its size at most, as far as the picture reaches. */
  zoomTo([x1, y1, x2, y2]) {
    const [w, h] = this.picture.size;
    this.zoom = Math.min(MAX_ZOOM, Math.max(1, Math.min(w / (x2 - x1), h / (y2 - y1)) / 3));
    const half = 0.5 / this.zoom;
    this.centre = [(x1 + x2) / 2 / w, (y1 + y2) / 2 / h].map((place) => Math.min(Math.max(place, half), 1 - half));
    this.draw();
  }
}
