// A small line of a series, as inline SVG.

import { s } from "./dom.js";

const WIDTH = 160;
const HEIGHT = 36;

/** `values` oldest first; null is a gap. `slots`: how many make the whole width. */
export function sparkline(values, slots, label) {
  const shown = values.slice(-slots);
  const most = Math.max(...shown.map((value) => value ?? 0), 1e-9);
  const step = WIDTH / Math.max(slots - 1, 1);
  const left = WIDTH - (shown.length - 1) * step;
  const runs = [];
  let run = null;
  shown.forEach((value, index) => {
    if (value === null) return (run = null);
    if (!run) runs.push((run = []));
    run.push([left + index * step, HEIGHT - 2 - (value / most) * (HEIGHT - 6)]);
  });
  const text = (points) => points.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L");
  const parts = runs.flatMap((points) => {
    const [first, last] = [points[0][0].toFixed(1), points.at(-1)[0].toFixed(1)];
    if (points.length === 1) return [s("circle", { class: "dot", cx: first, cy: points[0][1].toFixed(1), r: 1.5 })];
    return [
      s("path", { class: "area", d: `M${first} ${HEIGHT}L${text(points)}L${last} ${HEIGHT}Z` }),
      s("path", { class: "line", d: `M${text(points)}` }),
    ];
  });
  const box = { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" };
  return s("svg", { ...box, "aria-label": label }, parts);
}
