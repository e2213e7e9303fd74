// What the page says, for those who point with a mouse and for those who use their fingers.

const FINGERS = matchMedia("(pointer: coarse)");

export const byFingers = () => FINGERS.matches;

/** What can be done next, by what is being done. */
export function hints(correcting) {
  return byFingers()
    ? {
        looking: "Looking for everything in this picture; Cancel stops it.",
        picking: "Tap what is to be tracked, then Track; Cancel leaves.",
        correcting: `Correcting object ${correcting}: tap what belongs to it, press long on what does not; then Done.`,
        marked: "Track keeps it, Cancel leaves it; tap or press long to correct it.",
        held: "The picture is held. Tap something in it, step with ◀ and ▶, or Cancel to go on.",
        live: "Tap an object, or draw a box around it.",
      }
    : {
        looking: "Looking for everything in this picture; Esc stops it.",
        picking: "Click on what is to be tracked, then Enter; Esc leaves.",
        correcting: `Correcting object ${correcting}: click what belongs to it, Alt-click what does not; Enter when done.`,
        marked: "Enter tracks it, Esc leaves it; click or Alt-click to correct it.",
        held: "The picture is held. Mark something in it, step with , and . or press Esc to go on.",
        live: "Click on an object, or drag a box around it.",
      };
}

/** A delay; clocks that differ a little make none of it negative. */
export const milliseconds = (seconds) => `${Math.max(0, Math.round(seconds * 1000))} ms`;

export const frames = (count) => `${count} ${count === 1 ? "frame" : "frames"}`;

/** When something was: the time of today, the day as well of another one. */
export function moment(date, now = new Date()) {
  if (date.toDateString() === now.toDateString()) return date.toLocaleTimeString();
  return date.toLocaleString([], { month: "short", day: "numeric", hour: "numeric", minute: "2-digit" });
}

const SENTENCES = {
  zone_entered: (who, { zone }) => `${who} entered ${zone}`,
  zone_left: (who, { zone, dwell_s }) => `${who} left ${zone} after ${Math.round(dwell_s ?? 0)} s`,
  loitering: (who, { zone, dwell_s }) => `${who} has been in ${zone} for ${Math.round(dwell_s ?? 0)} s`,
  line_crossed: (who, { zone, direction }) => `${who} crossed ${zone} ${direction === "to_left" ? "to the left" : "to the right"}`,
  looks_like: (who, { message }) => `${who} looks like ${message ?? "somebody who is waited for"}`,
};

/** An event as a sentence. */
export function sentence(event) {
  const label = event.label ? ` “${event.label}”` : "";
  const who = event.object === undefined ? "" : `${event.object}${label}`;
  const known = SENTENCES[event.event];
  if (known) return known(who, event);
  const words = `${event.event.replaceAll("_", " ")} ${who}`.trim();
  return event.message ? `${words}: ${event.message}` : words;
}
