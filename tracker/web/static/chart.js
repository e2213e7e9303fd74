// Area and score of an object over the last minute, small enough to stand in a row.

const SECONDS = 60;

/** `samples`: [time, area, score or null], the oldest first. */
export function drawChart(canvas, samples, colour) {
  const context = canvas.getContext("2d");
  const ratio = window.devicePixelRatio;
  const [w, h] = [canvas.clientWidth * ratio, canvas.clientHeight * ratio].map(Math.round);
  if (!w || !h) return;
  canvas.width = w;
  canvas.height = h;
  const end = samples.at(-1)?.[0] ?? 0;
  const x = (time) => w - ((end - time) / SECONDS) * w;
  const top = Math.max(1, ...samples.map(([, area]) => area));
  context.fillStyle = colour;
  context.globalAlpha = 0.35;
  area(context, samples.map(([time, size]) => [x(time), h - (size / top) * (h - 2)]), h);
  context.globalAlpha = 1;
  context.strokeStyle = getComputedStyle(canvas).color;
  context.lineWidth = ratio;
  line(context, samples.map(([time, , score]) => [x(time), score === null ? null : h - 1 - score * (h - 2)]));
}

export function keepMinute(samples, sample) {
  if (samples.length && samples.at(-1)[0] >= sample[0]) samples.length = 0; // the daemon or the film began anew
  samples.push(sample);
  while (samples[0][0] < sample[0] - SECONDS) samples.shift();
}

function area(context, points, bottom) {
  if (points.length < 2) return;
  context.beginPath();
  context.moveTo(points[0][0], bottom);
  for (const [x, y] of points) context.lineTo(x, y);
  context.lineTo(points.at(-1)[0], bottom);
  context.fill();
}

function line(context, points) {
  context.beginPath();
  let down = false;
  for (const [x, y] of points) {
    if (y === null) down = false;
    else if (down) context.lineTo(x, y);
    else {
      context.moveTo(x, y);
      down = true;
    }
  }
  context.stroke();
}
