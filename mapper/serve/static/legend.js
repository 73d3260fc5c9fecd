// What the colours mean: a bar with units whose ends can be changed, or a list of flags.

import { byId, make, show } from "./dom.js";
import { formatNumber, formatUnits } from "./format.js";

const TICKS = 4;

export function showLegend(layer) {
  const flags = Boolean(layer.legend);
  for (const id of ["bar", "ticks", "range"]) show(byId(id), !flags);
  show(byId("flags"), flags);
  byId("colormap").disabled = flags;
  if (flags) showFlags(layer.legend);
  else showBar(layer);
}

function showBar({ colours, rescale: [low, high], units, title }) {
  const bar = byId("bar");
  const stops = colours.filter((_, index) => index % 6 === 0);
  bar.style.backgroundImage = `linear-gradient(to right, ${stops.join(", ")})`;
  bar.setAttribute("aria-label", `Colours from ${formatNumber(low)} to ${formatNumber(high)} ${formatUnits(units)}: ${title}`);
  const ticks = Array.from({ length: TICKS + 1 }, (_, k) => formatNumber(low + ((high - low) * k) / TICKS));
  byId("ticks").replaceChildren(...ticks.map((text) => make("span", {}, text)));
  byId("low").value = Number(low.toPrecision(6));
  byId("high").value = Number(high.toPrecision(6));
  byId("units").textContent = formatUnits(units);
}

function showFlags(legend) {
  const rows = legend.map(({ meaning, colour }) => {
    const swatch = make("span", { className: "swatch" });
    swatch.style.backgroundColor = colour;
    return make("li", {}, swatch, meaning);
  });
  byId("flags").replaceChildren(...rows);
}
