// A zone or a line traced on the picture, with its name.

import { shortened } from "./dom.js";

export function trace(context, points, line, scale, name, [w, h]) {
  if (!points.length) return;
  context.beginPath();
  points.forEach(([x, y]) => context.lineTo(x, y));
  if (!line) context.closePath();
  if (line && points.length === 2) head(context, points, scale);
  context.setLineDash([]);
  for (const [style, width] of [["rgb(11 13 16 / 70%)", 4], ["#fff", 2]]) {
    context.strokeStyle = style;
    context.lineWidth = width / scale;
    context.stroke();
  }
  context.font = `600 ${13 / scale}px system-ui, sans-serif`;
  context.fillStyle = "#fff";
  context.textBaseline = "top";
  const words = shortened(name);
  const [x, y] = [points[0][0] + 6 / scale, points[0][1] + 6 / scale]; // the name stays on the picture
  context.fillText(words, Math.min(x, w - context.measureText(words).width - 6 / scale), Math.min(y, h - 20 / scale));
}

/** An arrow's, at the second point. */
function head(context, [[x1, y1], [x2, y2]], scale) {
  const angle = Math.atan2(y2 - y1, x2 - x1);
  for (const turn of [2.6, -2.6]) {
    context.moveTo(x2, y2);
    context.lineTo(x2 + (12 / scale) * Math.cos(angle + turn), y2 + (12 / scale) * Math.sin(angle + turn));
  }
}
