// What lies inside a polygon, for people.

import { drawHistogram } from "./chart.js";
import { copyText, listFacts, make } from "./dom.js";
import { sayNumber, sayUnits, sayValue } from "./words.js";

/** Elements that tell an answer of /stats. */
export function describeTotal(answer, geometry) {
  const { total, mean, histogram, resolution } = answer;
  const said = total.sd ? ` ± ${sayNumber(best(total.sd), 3)}` : "";
  return [
    make("p", { className: "value" }, `${sayNumber(total.value)}${said} ${sayUnits(total.units)}`),
    make("p", { className: "hint" }, total.sd ? sayAssumption(total.sd) : "No standard deviation: it is not known everywhere in the polygon."),
    listFacts([
      ["Bounds of ±", total.sd ? `${sayValue(total.sd.independent, total.units, 3)} if errors are independent, ${sayValue(total.sd.fully_correlated, total.units, 3)} if all are alike` : ""],
      ["Mean", `${sayNumber(mean.value)}${mean.sd ? ` ± ${sayNumber(best(mean.sd), 3)}` : ""} ${sayUnits(mean.units)}`],
      ["Area", `${sayNumber(answer.area_ha)} ha, ${sayShare(answer.valid_fraction)} of it with a value`],
      ["Outside the map", answer.area_in_map_ha < answer.area_ha * 0.999 ? `${sayNumber(answer.area_ha - answer.area_in_map_ha)} ha` : ""],
      ["Resolution", resolution.level ? sayLevel(resolution, total.units) : ""],
    ]),
    ...(answer.valid_area_ha > 0 ? [describeHistogram(histogram, mean.units)] : []),
    describeQuality(answer.quality),
    makeButtons(answer, geometry),
  ];
}

/** The deviation to show first: with the correlation that is known, else the careful bound. */
const best = (sd) => sd.correlated ?? sd.fully_correlated;

function sayAssumption(sd) {
  if (sd.correlated === null) return "± one standard deviation if all errors are alike: the careful bound.";
  return `± one standard deviation; errors correlate over ${sayNumber(sd.correlation_m / 1000, 3)} km.`;
}

function sayLevel({ level, total_tolerance, up_to_date }, units) {
  const stale = up_to_date ? "" : "; the pyramid is older than the map";
  return `level ${level} of the pyramid, since the polygon is large: within ${sayValue(total_tolerance, units, 2)} of full resolution${stale}`;
}

function describeHistogram({ edges, area_ha, below_ha, above_ha }, units) {
  const figure = drawHistogram(edges, area_ha, units, "hectares");
  const beyond = [[below_ha, "below"], [above_ha, "above"]].filter(([area]) => area > 0);
  if (beyond.length) {
    figure.append(make("p", { className: "hint" }, `${beyond.map(([area, side]) => `${sayNumber(area, 3)} ha ${side}`).join(", ")} these values.`));
  }
  return figure;
}

function describeQuality(quality) {
  const rows = quality.filter(({ share }) => share > 0).map(({ meaning, share }) =>
    make("tr", {}, make("td", {}, sayShare(share)), make("td", {}, meaning)));
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

const sayShare = (share) => (share > 0 && share < 0.001 ? "< 0.1 %" : `${sayNumber(share * 100, 3)} %`);
