// Mouse, touch and keyboard on the large picture: click, Alt- or right-click, drag, and a cursor moved by arrow keys.

const DRAG_PX = 6;
const LONG_PRESS_MS = 500;
const WHEEL = 1.0015;

export class Pointing {
  /** `tools`: view, hold, prompt, everything, select(object), and `on()`: whether taps mean "on the object". */
  constructor(canvas, tools) {
    Object.assign(this, tools);
    this.canvas = canvas;
    this.start = null;
    this.moving = null; // where the middle button moves a zoomed picture from
    this.cursor = null; // source pixel, moved by keys
    this.fingers = new Map(); // pointer id -> where it is: with two the picture is zoomed and moved
    this.view.layers.push((context, scale) => this.drawCursor(context, scale));
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", (event) => this.up(event));
    canvas.addEventListener("pointercancel", (event) => this.cancel(event));
    canvas.addEventListener("pointerleave", () => this.everything.hover(null));
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("blur", () => this.setCursor(null));
  }

  down(event) {
    const at = this.view.sourceOf(event);
    if (!at) return;
    if (event.button === 1) return this.grasp(event);
    this.fingers.set(event.pointerId, [event.clientX, event.clientY]);
    if (this.fingers.size > 1) return this.forget(); // two fingers mark nothing
    if (!this.view.isOn(event)) return; // beside the picture
    this.canvas.focus({ preventScroll: true });
    this.setCursor(null);
    this.canvas.setPointerCapture(event.pointerId);
    // The prompt means the frame that is seen now, not the one that is shown when the button is let go.
    const held = this.hold.held;
    if (!event.shiftKey) this.hold.here();
    this.start = { at, x: event.clientX, y: event.clientY, time: event.timeStamp, dragging: false, held };
  }

  move(event) {
    if (this.fingers.size > 1) return this.pinch(event);
    if (this.moving) return this.drag(event);
    const at = this.view.sourceOf(event);
    if (!at) return;
    if (!this.start) {
      if (this.everything.active) this.everything.hover(at);
      return;
    }
    const moved = Math.hypot(event.clientX - this.start.x, event.clientY - this.start.y);
    if (moved > DRAG_PX) this.start.dragging = true;
    if (!this.start.dragging || this.everything.active) return;
    this.prompt.dragged = boxOf(this.start.at, at);
    this.view.draw();
  }

  /** The middle button takes hold of a zoomed picture. */
  grasp(event) {
    event.preventDefault(); // some browsers would scroll by themselves
    this.moving = { x: event.clientX, y: event.clientY };
    this.canvas.setPointerCapture(event.pointerId);
  }

  drag({ clientX, clientY }) {
    this.view.pan(clientX - this.moving.x, clientY - this.moving.y);
    this.view.draw();
    this.moving = { x: clientX, y: clientY };
  }

  /** One of several fingers moved: what was between them stays between them. */
  pinch({ pointerId, clientX, clientY }) {
    if (!this.fingers.has(pointerId)) return;
    const before = spread(this.fingers);
    this.fingers.set(pointerId, [clientX, clientY]);
    const now = spread(this.fingers);
    const at = this.view.sourceOf({ clientX: now.x, clientY: now.y });
    this.view.pan(now.x - before.x, now.y - before.y);
    if (at) this.view.zoomBy(now.distance / before.distance, at);
  }

  up(event) {
    this.fingers.delete(event.pointerId);
    this.moving = null;
    const { start } = this;
    const at = this.view.sourceOf(event);
    this.start = null;
    this.prompt.dragged = null;
    if (!start || !at) return;
    if (event.shiftKey) this.select(this.view.objectAt(start.at));
    else if (this.everything.active) this.everything.pick(start.at);
    else if (start.dragging) this.box(boxOf(start.at, at));
    else this.prompt.point(start.at, this.isOn(event, event.timeStamp - start.time));
    this.goOn(start);
  }

  /** Lets the picture run on where a press came to nothing. */
  goOn(start) {
    const busy = this.prompt.active || this.prompt.correcting !== null || this.everything.active;
    if (!start.held && !busy) this.hold.release();
    this.view.draw();
  }

  /** A tap that lasts is, like Alt and the right button, on what is not the object. */
  isOn(event, heldMs) {
    if (event.altKey || event.button === 2) return false;
    if (event.pointerType === "touch" && heldMs > LONG_PRESS_MS) return false;
    return this.on();
  }

  cancel(event) {
    this.fingers.delete(event.pointerId);
    this.moving = null;
    this.forget();
  }

  /** A press that comes to nothing. */
  forget() {
    const { start } = this;
    this.start = null;
    this.prompt.dragged = null;
    if (start) this.goOn(start);
  }

  box([x1, y1, x2, y2]) {
    if (x2 - x1 >= 1 && y2 - y1 >= 1) this.prompt.setBox([x1, y1, x2, y2]);
  }

  wheel(event) {
    const at = this.view.sourceOf(event);
    if (!at || !event.ctrlKey && !event.metaKey && this.view.zoom === 1 && event.deltaY > 0) return;
    event.preventDefault();
    this.view.zoomBy(WHEEL ** -event.deltaY, at);
  }

  key(event) {
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (!this.view.picture || event.ctrlKey || event.metaKey || (event.altKey && key !== " ")) return; // the browser's own
    if (key in steps) this.moveCursor(steps[key], event.shiftKey);
    else if (key === " ") this.mark(!event.altKey && this.on());
    else if (key === "x") this.mark(false);
    else if (key === "b") this.markCorner();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  moveCursor([dx, dy], fine) {
    const [w, h] = this.view.picture.size;
    const step = fine ? 1 : Math.max(w, h) / 40;
    const [x, y] = this.cursor ?? [w / 2, h / 2];
    this.setCursor([clamp(x + dx * step, w), clamp(y + dy * step, h)]);
    if (this.prompt.corner) this.prompt.dragged = boxOf(this.prompt.corner, this.cursor);
    if (this.everything.active) this.everything.hover(this.cursor);
    this.view.reveal(this.cursor);
    this.view.draw();
  }

  mark(on) {
    const [w, h] = this.view.picture.size;
    if (!this.cursor) this.setCursor([w / 2, h / 2]);
    else if (this.everything.active) this.everything.pick(this.cursor);
    else this.prompt.point([...this.cursor], on);
  }

  markCorner() {
    const { prompt, cursor } = this;
    if (!cursor || this.everything.active) return;
    if (!prompt.corner) {
      this.hold.here();
      prompt.corner = cursor;
      return;
    }
    const box = boxOf(prompt.corner, cursor);
    prompt.corner = null;
    prompt.dragged = null;
    this.box(box);
  }

  setCursor(xy) {
    if (xy === this.cursor) return;
    this.cursor = xy;
    if (!xy) this.prompt.corner = this.prompt.dragged = null;
    this.view.draw();
  }

  drawCursor(context, scale) {
    if (!this.cursor) return;
    const [x, y] = this.cursor;
    const arm = 14 / scale;
    for (const [colour, width] of [["#000", 4], ["#fff", 2]]) {
      context.strokeStyle = colour;
      context.lineWidth = width / scale;
      context.beginPath();
      context.moveTo(x - arm, y);
      context.lineTo(x + arm, y);
      context.moveTo(x, y - arm);
      context.lineTo(x, y + arm);
      context.stroke();
    }
  }
}

const clamp = (value, end) => Math.min(Math.max(value, 0), end - 1);

/** The middle of two fingers, and how far they are apart. */
function spread(fingers) {
  const [[x1, y1], [x2, y2]] = [...fingers.values()];
  return { x: (x1 + x2) / 2, y: (y1 + y2) / 2, distance: Math.max(1, Math.hypot(x2 - x1, y2 - y1)) };
}

function boxOf([x1, y1], [x2, y2]) {
  return [Math.min(x1, x2), Math.min(y1, y2), Math.max(x1, x2), Math.max(y1, y2)];
}
