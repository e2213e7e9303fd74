// Adding, pausing and removing streams, where the daemon allows it; what it refuses is shown in its words.

import { $, show, text, toast } from "./dom.js";

export class Streams {
  constructor(link, selected) {
    this.link = link;
    this.selected = selected; // () -> stream record or undefined
    $("add-stream").addEventListener("click", () => this.open());
    $("stream-form").addEventListener("submit", (event) => this.add(event));
    $("stream-cancel").addEventListener("click", () => $("stream-dialog").close());
    $("pause").addEventListener("click", () => this.pause());
    $("remove-stream").addEventListener("click", () => this.askRemove());
    $("confirm-form").addEventListener("submit", () => this.remove());
    $("confirm-cancel").addEventListener("click", () => $("confirm-dialog").close());
  }

  open() {
    show($("stream-refusal"), false);
    $("stream-dialog").showModal();
  }

  async add(event) {
    event.preventDefault();
    const form = new FormData($("stream-form"));
    const loop = form.get("loop") ? { loop: true } : {};
    try {
      await this.link.call("streams.add", { stream: form.get("name").trim(), url: form.get("url").trim(), ...loop });
      $("stream-dialog").close();
      $("stream-form").reset();
    } catch (error) {
      text($("stream-refusal"), error.message);
      show($("stream-refusal"), true);
    }
  }

  update() {
    const record = this.selected();
    text($("pause"), record?.state === "paused" ? "Resume" : "Pause");
    show($("stream-error"), Boolean(record?.error));
    text($("stream-error"), record?.error ?? "");
    for (const id of ["pause", "remove-stream"]) $(id).disabled = !record;
    for (const id of ["freeze", "find"]) $(id).disabled = record?.buffer.newest == null;
  }

  async pause() {
    const { stream, state } = this.selected();
    await this.carryOut(state === "paused" ? "streams.resume" : "streams.pause", stream);
  }

  askRemove() {
    const { stream, objects } = this.selected();
    text($("confirm-text"), `Remove the stream ${stream}? Its objects (${objects}) are forgotten.`);
    this.removing = stream;
    $("confirm-dialog").showModal();
  }

  async remove() {
    await this.carryOut("streams.remove", this.removing);
  }

  async carryOut(op, stream) {
    try {
      await this.link.call(op, { stream });
    } catch (error) {
      toast(error.message, true);
    }
  }
}
