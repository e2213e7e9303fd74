// Outlines as the protocol has them: polygons of rings, each a flat list of whole numbers in source pixels.

export function pathOf(outline) {
  const path = new Path2D();
  for (const polygon of outline) {
    for (const ring of polygon) {
      path.moveTo(ring[0], ring[1]);
      for (let i = 2; i < ring.length; i += 2) path.lineTo(ring[i], ring[i + 1]);
      path.closePath();
    }
  }
  return path;
}

/** The top left of the largest part, for the name: a speck far off stretches the box. */
export function cornerOf(outline) {
  const [largest] = outline.map(([ring]) => boundsOf(ring)).sort((a, b) => b.area - a.area);
  return [largest.x1, largest.y1];
}

function boundsOf(ring) {
  const [xs, ys] = [0, 1].map((axis) => ring.filter((_, i) => i % 2 === axis));
  const [x1, y1] = [Math.min(...xs), Math.min(...ys)];
  return { x1, y1, area: (Math.max(...xs) - x1) * (Math.max(...ys) - y1) };
}

/** Strokes a path `width` screen pixels wide whatever the zoom, with a dark edge that shows on any picture. */
export function stroke(context, path, colour, { width = 2, scale = 1, dash = [] } = {}) {
  context.lineJoin = "round";
  context.setLineDash([]);
  context.strokeStyle = "rgb(0 0 0 / 55%)";
  context.lineWidth = (width + 2) / scale;
  context.stroke(path);
  context.setLineDash(dash.map((length) => length / scale));
  context.strokeStyle = colour;
  context.lineWidth = width / scale;
  context.stroke(path);
  context.setLineDash([]);
}

export function fill(context, path, colour, opacity) {
  context.globalAlpha = opacity;
  context.fillStyle = colour;
  context.fill(path, "evenodd");
  context.globalAlpha = 1;
}
