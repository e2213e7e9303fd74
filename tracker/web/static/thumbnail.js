// Small pictures that the daemon sends as JPEG in base64.

import { make } from "./dom.js";

/** A canvas with the picture on it, drawn by the browser's decoder: nothing of it can become markup. */
export function thumbnail(base64) {
  const canvas = make("canvas", { class: "thumbnail", width: 96, height: 96, "aria-hidden": "true" });
  draw(canvas, base64);
  return canvas;
}

async function draw(canvas, base64) {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  try {
    const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/jpeg" }));
    const scale = Math.min(canvas.width / bitmap.width, canvas.height / bitmap.height);
    const [w, h] = [bitmap.width * scale, bitmap.height * scale];
    canvas.getContext("2d").drawImage(bitmap, (canvas.width - w) / 2, (canvas.height - h) / 2, w, h);
    bitmap.close();
  } catch {
    canvas.hidden = true; // no picture is better than a broken one
  }
}
