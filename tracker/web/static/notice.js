// Words on the large picture where it is not what happens now: why that is, and how old the picture is.

import { $, show, text } from "./dom.js";

const EVERY_MS = 1000;
const LATE_MS = 5000; // without a picture of a stream that is said to be live
const LATE_FRAMES = 3; // or so many of a slow stream's

const WHY = {
  connecting: "No connection to the camera",
  stalled: "The camera sends no pictures",
  paused: "Paused",
  ended: "The stream has ended",
  failed: "The stream has failed",
};

export class Notice {
  /** `now()` gives what is known: { record, picture, held, answers }; `since(time)` the age of a picture in seconds;
   * `told()` is called while there is something to say. */
  constructor(now, since, told) {
    Object.assign(this, { now, since, told });
    this.shownMs = performance.now(); // when the last live picture was shown, or could first have been
    document.addEventListener("visibilitychange", () => this.waits());
    setInterval(() => this.update(), EVERY_MS);
  }

  /** A live picture was shown, or another one is waited for from now on. */
  waits() {
    this.shownMs = performance.now();
  }

  update() {
    const now = this.now();
    const why = now.held || document.hidden ? "" : this.why(now);
    show($("notice"), Boolean(why));
    text($("notice-why"), why);
    text($("notice-age"), why && now.picture ? this.age(now.picture) : "");
    text($("notice-error"), (why && now.record?.error) || "");
    if (why) this.told();
  }

  why({ record, answers }) {
    if (!answers) return "No connection to the daemon";
    if (!record) return "";
    if (record.state !== "live") return WHY[record.state] ?? record.state;
    const lateMs = Math.max(LATE_MS, record.fps ? (LATE_FRAMES * 1000) / record.fps : 0);
    return performance.now() - this.shownMs > lateMs ? "No new pictures come" : "";
  }

  age({ time }) {
    return time ? `· this picture is ${lasting(this.since(time))} old` : "· this is the last picture";
  }
}

export function lasting(seconds) {
  if (seconds < 90) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 129_600 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86_400)} days`;
}
