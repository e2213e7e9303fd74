// Adding, pausing and removing streams, where the daemon allows it; what it refuses is shown in its words.

import { ask } from "./asking.js";
import { $, show, text } from "./dom.js";
import { Form } from "./form.js";

const RESUME = { paused: "Resume", ended: "Play again", failed: "Try again" };

export class Streams {
  constructor(link, selected) {
    this.link = link;
    this.selected = selected; // () -> stream record or undefined
    this.adding = new Form($("stream-form"));
    this.removal = new Form($("confirm-form"));
    $("add-stream").addEventListener("click", () => this.open());
    $("stream-form").addEventListener("submit", (event) => (event.preventDefault(), this.add()));
    $("stream-dialog").addEventListener("close", () => this.adding.end());
    $("stream-cancel").addEventListener("click", () => $("stream-dialog").close());
    $("pause").addEventListener("click", () => this.pause());
    $("remove-stream").addEventListener("click", () => this.askRemove());
    $("confirm-form").addEventListener("submit", (event) => (event.preventDefault(), this.remove()));
    $("confirm-dialog").addEventListener("close", () => this.removal.end());
    $("confirm-cancel").addEventListener("click", () => $("confirm-dialog").close());
  }

  open() {
    this.adding.begin();
    $("stream-dialog").showModal();
  }

  async add() {
    const form = new FormData($("stream-form"));
    const loop = form.get("loop") ? { loop: true } : {};
    const wanted = { stream: form.get("name").trim(), url: form.get("url").trim(), ...loop };
    if (!(await this.adding.send((late) => this.link.call("streams.add", wanted, late)))) return;
    $("stream-dialog").close();
    $("stream-form").reset();
  }

  update() {
    const record = this.selected();
    text($("pause"), RESUME[record?.state] ?? "Pause");
    show($("stream-error"), Boolean(record?.error));
    text($("stream-error"), record?.error ?? "");
    for (const id of ["pause", "remove-stream"]) $(id).disabled = !record;
    for (const id of ["freeze", "find"]) $(id).disabled = record?.buffer.newest == null;
  }

  async pause() {
    const { stream, state } = this.selected();
    const op = state in RESUME ? "streams.resume" : "streams.pause";
    await ask(this.link, op, { stream });
  }

  askRemove() {
    const { stream, objects } = this.selected();
    text($("confirm-text"), `Remove the stream ${stream}? Its objects (${objects}) are forgotten.`);
    this.removing = stream;
    this.removal.begin();
    $("confirm-dialog").showModal();
  }

  async remove() {
    const { removing: stream } = this;
    if (await this.removal.send((late) => this.link.call("streams.remove", { stream }, late))) $("confirm-dialog").close();
  }
}
