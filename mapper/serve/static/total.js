// What lies inside a polygon, for people.

import { drawHistogram } from "./chart.js";
import { copyText, listPairs, make } from "./dom.js";
import { formatNumber, formatUnits, formatValue } from "./format.js";

/** Elements that show an answer of /stats. */
export function describeTotal(answer, geometry) {
  const { mean, histogram, resolution } = answer;
  const headline = answer.total ?? mean; // a sum of heights or reflectances means nothing
  const { sd, units } = headline;
  return [
    make("p", { className: "value" }, formatQuantity(headline)),
    make("p", { className: "hint" }, sd ? describeAssumption(sd) : "No standard deviation: it is not known everywhere in the polygon."),
    listPairs([
      ["Bounds of ±", sd ? `${formatValue(sd.independent, units, 3)} if errors are independent, ${formatValue(sd.fully_correlated, units, 3)} if all are alike` : ""],
      ["Band", answer.variable],
      ["Mean", answer.total ? formatQuantity(mean) : ""],
      ["Area", `${formatNumber(answer.area_ha)} ha, ${formatShare(answer.valid_fraction)} of it with a value`],
      ["Outside the map", answer.area_in_map_ha < answer.area_ha * 0.999 ? `${formatNumber(answer.area_ha - answer.area_in_map_ha)} ha` : ""],
      ["Resolution", resolution.level ? describeLevel(resolution, units) : ""],
    ]),
    ...(answer.valid_area_ha > 0 ? [describeHistogram(histogram, mean.units)] : []),
    describeQuality(answer.quality),
    makeButtons(answer, geometry),
  ];
}

function formatQuantity({ value, units, sd }) {
  return `${formatNumber(value)}${sd ? ` ± ${formatNumber(best(sd), 3)}` : ""} ${formatUnits(units)}`;
}

/** The deviation to show first: with the correlation that is known, else the careful bound. */
const best = (sd) => sd.correlated ?? sd.fully_correlated;

function describeAssumption(sd) {
  if (sd.correlated === null) return "± one standard deviation if all errors are alike: the careful bound.";
  return `± one standard deviation; errors correlate over ${formatNumber(sd.correlation_m / 1000, 3)} km.`;
}

function describeLevel({ level, total_tolerance, up_to_date }, units) {
  const stale = up_to_date ? "" : "; the pyramid is older than the map";
  const within = total_tolerance === null ? "" : `: within ${formatValue(total_tolerance, units, 2)} of full resolution`;
  return `level ${level} of the pyramid, since the polygon is large${within}${stale}`;
}

function describeHistogram({ edges, area_ha, below_ha, above_ha }, units) {
  const figure = drawHistogram(edges, area_ha, units, "hectares");
  const beyond = [[below_ha, "below"], [above_ha, "above"]].filter(([area]) => area > 0);
  if (beyond.length) {
    figure.append(make("p", { className: "hint" }, `${beyond.map(([area, side]) => `${formatNumber(area, 3)} ha ${side}`).join(", ")} these values.`));
  }
  return figure;
}

function describeQuality(quality) {
  const rows = quality.filter(({ share }) => share > 0).map(({ meaning, share }) =>
    make("tr", {}, make("td", {}, formatShare(share)), make("td", {}, meaning)));
  return make("details", {}, make("summary", {}, "Quality of these pixels"), make("table", {}, make("tbody", {}, ...rows)));
}

function makeButtons(answer, geometry) {
  const button = (text, content) => {
    const element = make("button", { type: "button" }, text);
    element.addEventListener("click", () => copyText(JSON.stringify(content, null, 1), element));
    return element;
  };
  return make("div", { className: "row" }, button("Copy polygon", geometry), button("Copy numbers", answer));
}

const formatShare = (share) => (share > 0 && share < 0.001 ? "< 0.1 %" : `${formatNumber(share * 100, 3)} %`);
