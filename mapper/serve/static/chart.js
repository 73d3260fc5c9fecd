// A histogram as a small picture.

import { draw, make } from "./dom.js";
import { formatNumber, formatUnits } from "./format.js";

const WIDTH = 320;
const HEIGHT = 96;
const FOOT = 16;

/** Bars between rising edges; counts may be pixels or hectares. */
export function drawHistogram(edges, counts, units, counted) {
  const most = Math.max(...counts, 1e-30);
  const [low, high] = [edges[0], edges[edges.length - 1]];
  const xOf = (value) => ((value - low) / (high - low || 1)) * WIDTH;
  const bars = counts.map((count, number) => {
    const [left, right] = [xOf(edges[number]), xOf(edges[number + 1])];
    const tall = count > 0 ? Math.max(1, (count / most) * (HEIGHT - 4)) : 0;
    const label = `${formatNumber(edges[number])} to ${formatNumber(edges[number + 1])} ${formatUnits(units)}: ${formatNumber(count)} ${counted}`;
    return draw("rect", { x: left + 0.5, y: HEIGHT - tall, width: Math.max(0.5, right - left - 1), height: tall },
      draw("title", {}, label));
  });
  const tick = (value, anchor) => draw("text", { x: xOf(value), y: HEIGHT + FOOT - 3, "text-anchor": anchor }, formatNumber(value, 3));
  const peak = counts.indexOf(Math.max(...counts));
  const label = `Histogram from ${formatNumber(low)} to ${formatNumber(high)} ${formatUnits(units)}; most ${counted} between ${formatNumber(edges[peak])} and ${formatNumber(edges[peak + 1])}`;
  const picture = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT + FOOT}`, role: "img", "aria-label": label }, ...bars,
    draw("line", { x1: 0, x2: WIDTH, y1: HEIGHT, y2: HEIGHT }),
    tick(low, "start"), tick((low + high) / 2, "middle"), tick(high, "end"));
  const caption = make("figcaption", {}, `${counted[0].toUpperCase()}${counted.slice(1)} by value${formatUnits(units) ? `, ${formatUnits(units)}` : ""}`);
  return make("figure", { className: "histogram" }, picture, caption);
}
