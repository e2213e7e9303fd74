// Buttons, keys and hints around the large picture.

import { $, make, show, text } from "./dom.js";
import { hints, milliseconds } from "./wording.js";

const FIGURES_MS = 250;
const ZOOM = 1.5; // of a key
const MOVE = 1 / 8; // of the window, by a key

export class Controls {
  constructor(app) {
    this.app = app;
    this.on = true; // taps mean "on the object"
    this.tickedMs = 0;
    const { hold, prompt, everything, view } = app;
    const clicks = {
      freeze: () => (hold.held ? this.leave() : hold.here()),
      back: () => hold.step(-1),
      forward: () => hold.step(1),
      off: () => this.turn(!this.on),
      find: () => everything.find(),
      accept: () => this.accept(),
      leave: () => this.leave(),
      help: () => this.help(),
      fit: () => this.zoom(0),
    };
    for (const [id, action] of Object.entries(clicks)) $(id).addEventListener("click", action);
    $("buffer").addEventListener("input", ({ target }) => hold.goTo(Number(target.value)));
    document.body.classList.toggle("kiosk", app.kiosk);
    // A wall has nothing that would say that its picture is held or marked: it takes no keys and no clicks.
    $("view").inert = app.kiosk;
    if (!app.kiosk) document.addEventListener("keydown", (event) => this.key(event));
    this.update();
  }

  /** Keys that work everywhere but in fields, dialogs, and with a modifier that means something else. */
  key(event) {
    const { target, key } = event;
    if (event.ctrlKey || event.metaKey || event.altKey || target.closest("input:not([type=range]), dialog, textarea")) return;
    const { hold, prompt, everything } = this.app;
    const keys = {
      Enter: () => this.accept(),
      Escape: () => this.leave(),
      f: () => (hold.held ? this.leave() : hold.here()),
      a: () => this.app.zones.draft || everything.find(),
      ",": () => hold.step(-1),
      ".": () => hold.step(1),
      1: () => prompt.choose(0),
      2: () => prompt.choose(1),
      3: () => prompt.choose(2),
      "+": () => this.zoom(ZOOM),
      "-": () => this.zoom(1 / ZOOM),
      0: () => this.zoom(0),
      i: () => this.move(0, -1),
      j: () => this.move(-1, 0),
      k: () => this.move(0, 1),
      l: () => this.move(1, 0),
    };
    if (key === "Enter" && target.closest("button")) return; // it presses the button
    const name = key.length === 1 ? key.toLowerCase() : key;
    if (!(name in keys)) return;
    event.preventDefault();
    keys[name]();
  }

  accept() {
    const { prompt, everything, zones } = this.app;
    if (zones.draft) return $("zone-form").requestSubmit();
    if (prompt.active) return prompt.accept();
    if (everything.picked.size) return everything.accept();
    if (prompt.correcting !== null) prompt.leave();
    return null;
  }

  leave() {
    const { prompt, everything, hold, zones } = this.app;
    if (zones.draft) return zones.leave();
    if (everything.active) everything.leave();
    prompt.leave();
    hold.release();
    this.turn(true);
  }

  /** By a factor, about the cursor or the middle; 0: the whole picture. */
  zoom(factor) {
    const { view, pointing } = this.app;
    view.zoomBy(factor, pointing.cursor ?? view.middle);
    this.app.look();
  }

  /** What is left of, right of, above or below what is seen of a zoomed picture comes into view. */
  move(x, y) {
    const { view } = this.app;
    const { clientWidth, clientHeight } = view.canvas;
    view.pan(-x * clientWidth * MOVE, -y * clientHeight * MOVE);
    view.draw();
  }

  turn(on) {
    this.on = on;
    $("off").setAttribute("aria-pressed", !on);
  }

  help() {
    const open = $("help-text").hidden;
    show($("help-text"), open);
    $("help").setAttribute("aria-expanded", open);
  }

  /** Figures of the picture that was just drawn; not with every one, nobody reads so fast. */
  tick(picture, latencyS) {
    const now = performance.now();
    if (now - this.tickedMs < FIGURES_MS) return;
    this.tickedMs = now;
    text($("frame-number"), `frame ${picture.frame}`);
    text($("latency"), `${milliseconds(latencyS)}${this.reduced(picture)}`);
    $("buffer").max = picture.frame;
    $("buffer").value = picture.frame;
  }

  /** Of a picture that does not move, or of none; what was said of the last stream's is gone. */
  still(picture) {
    text($("frame-number"), picture ? `frame ${picture.frame}` : "");
    text($("latency"), "");
  }

  /** The server sends smaller pictures than are looked at where the network is slow. */
  reduced({ bitmap, size }) {
    const wanted = Math.min(size[0], this.app.view.sourceWidth);
    return bitmap.width < wanted / 2 ? ` · slow connection: ${bitmap.width} pixels wide` : "";
  }

  update() {
    const { app } = this;
    const { hold, prompt, everything, selected, zones } = app;
    if (!prompt || !everything) return;
    const record = app.records.get(selected);
    text($("stream-name"), selected ?? "No stream");
    document.title = selected ? `${selected} · tracker` : "tracker";
    $("freeze").setAttribute("aria-pressed", hold.held);
    document.body.classList.toggle("held", hold.held);
    if (record?.buffer.newest != null) {
      $("buffer").min = record.buffer.oldest;
      $("buffer").max = Math.max(record.buffer.newest, hold.frame ?? 0);
    }
    if (hold.held) {
      $("buffer").value = hold.frame;
      text($("frame-number"), `frame ${hold.frame}, held`);
      text($("latency"), "");
    }
    $("accept").disabled = !(zones?.draft || prompt.active || everything.picked.size || prompt.correcting !== null);
    text($("accept"), this.acceptance());
    $("leave").disabled = !(zones?.draft || prompt.active || everything.active || hold.held);
    show($("progress"), everything.job !== null);
    $("progress").value = everything.progress;
    text($("hint"), this.hint());
    this.showCandidates();
  }

  /** What the main button does. */
  acceptance() {
    const { prompt, everything, zones } = this.app;
    if (zones?.draft) return "Save";
    if (prompt.correcting !== null) return "Done";
    return everything.picked.size ? `Track ${everything.picked.size}` : "Track";
  }

  hint() {
    const { hold, prompt, everything, view, zones } = this.app;
    const words = hints(prompt.correcting);
    if (zones?.draft) return zones.hint;
    if (everything.job) return words.looking;
    if (everything.active) return words.picking;
    if (prompt.correcting !== null) return words.correcting;
    if (prompt.waiting) return "Asking the model…";
    if (prompt.active) return words.marked;
    if (!view.picture) return "";
    const passedOver = hold.held && view.picture.tracks === null && this.app.tracked.list.rows.size > 0;
    return `${passedOver ? "No outlines are known of this frame. " : ""}${hold.held ? words.held : words.live}`;
  }

  showCandidates() {
    const { candidates, chosen } = this.app.prompt;
    const box = $("candidates");
    show(box, candidates.length > 1);
    const wanted = candidates.map(({ score }, i) => `${i + 1}: ${score.toFixed(2)}`).join();
    if (box.dataset.wanted !== wanted) {
      box.dataset.wanted = wanted;
      box.replaceChildren(...candidates.map((candidate, i) => this.candidate(candidate, i)));
    }
    [...box.children].forEach((button, i) => button.setAttribute("aria-checked", i === chosen));
  }

  candidate({ score }, index) {
    const words = `${index + 1} · ${Math.round(score * 100)} %`;
    return make("button", { role: "radio", onclick: () => this.app.prompt.choose(index) }, words);
  }
}
