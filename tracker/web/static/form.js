// A small form and the daemon's answer: until that is there it stays open with what was typed, and a refusal stands in it.

import { refusal, show, text, toast } from "./dom.js";

export class Form {
  /** `element` has a `.refusal` inside, in which it is said what was refused. */
  constructor(element) {
    this.element = element;
    this.refusal = element.querySelector(".refusal");
    this.turn = null; // from begin to end; what is answered later is of an earlier one
  }

  begin() {
    this.turn = {};
    this.wait(false);
    show(this.refusal, false);
  }

  end() {
    this.turn = null;
  }

  /** Asks once at a time; whether it was granted while the form was still the same. `ask(late)` has the form say
   * `late(words)` where the answer is not there yet. */
  async send(ask) {
    if (this.waits) return false;
    const { turn } = this;
    this.wait(true);
    show(this.refusal, false);
    try {
      await ask((words) => this.tell(words, turn, toast));
      return turn === this.turn;
    } catch (error) {
      this.tell(error.message, turn, refusal);
      return false;
    } finally {
      if (turn === this.turn) this.wait(false);
    }
  }

  wait(waits) {
    this.waits = waits;
    this.element.setAttribute("aria-busy", waits);
  }

  /** What is said of an earlier turn, or when the form is gone, is said `elsewhere`. */
  tell(message, turn, elsewhere) {
    if (turn === this.turn && this.element.isConnected) this.refuse({ message });
    else elsewhere(message, true);
  }

  refuse({ message }) {
    text(this.refusal, message);
    show(this.refusal, true);
    this.refusal.scrollIntoView({ block: "nearest" });
  }
}
