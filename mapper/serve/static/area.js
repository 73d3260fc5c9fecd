// A polygon: its total with uncertainty, its area, and how its values are distributed.

import { describeTotal } from "./total.js";
import { byId, make, reveal, show } from "./dom.js";
import { makePencil } from "./draw.js";
import { address, isAborted, post } from "./server.js";
import { wrap } from "./format.js";

const STYLES = [ // a white edge keeps the line visible on any colour
  { color: "#fff", weight: 5, opacity: 0.85, fill: false, interactive: false },
  { color: "#a3201a", weight: 2.5, fillOpacity: 0.06, interactive: false },
];

/** Polygons drawn, pasted or taken from the view; `current` gives the version and the band to sum. */
export function makeArea(map, current) {
  let geometry = null;
  let outline = null;
  let asking = new AbortController();
  const pencil = makePencil(map, (corners) => sum(polygonOf(corners)));

  async function sum(polygon, { fit = false } = {}) {
    clear();
    geometry = polygon;
    outline = L.featureGroup(STYLES.map((style) => L.geoJSON(polygon, { style, interactive: false }))).addTo(map);
    if (fit) map.fitBounds(outline.getBounds(), { maxZoom: map.getMaxZoom() - 3 });
    show(byId("clear-area"), true);
    await ask();
  }

  async function ask() {
    asking.abort();
    asking = new AbortController();
    const { signal } = asking;
    const panel = byId("area");
    panel.replaceChildren(make("p", { className: "hint" }, "Summing up …"));
    try {
      const answer = await post(address("stats", current()), geometry, { signal });
      panel.replaceChildren(...describeTotal(answer, geometry));
      reveal(panel);
    } catch (error) {
      if (!isAborted(error)) panel.replaceChildren(make("p", { className: "notice fault" }, error.message));
    }
  }

  function clear() {
    asking.abort();
    outline?.remove();
    outline = geometry = null;
    byId("area").replaceChildren();
    show(byId("clear-area"), false);
  }

  byId("draw").addEventListener("click", () => { clear(); pencil.start(); byId("map").focus({ preventScroll: true }); });
  byId("clear-area").addEventListener("click", clear);
  byId("take-view").addEventListener("click", () => {
    const box = map.getBounds();
    const [west, south, east, north] = [box.getWest(), box.getSouth(), box.getEast(), box.getNorth()];
    sum(polygonOf([[west, south], [east, south], [east, north], [west, north]]));
  });
  byId("paste-form").addEventListener("submit", (event) => {
    event.preventDefault();
    try {
      sum(readPolygon(byId("paste").value), { fit: true });
    } catch (error) {
      byId("area").replaceChildren(make("p", { className: "notice fault" }, error.message));
    }
  });

  return { isDrawing: pencil.isDrawing, repeat: () => { if (geometry) ask(); } };
}

const polygonOf = (corners) => ({
  type: "Polygon", coordinates: [[...corners, corners[0]].map(([lng, lat]) => [round(wrap(lng)), round(lat)])],
});
const round = (angle) => Number(angle.toFixed(7));

/** The first polygon in what somebody pasted. */
function readPolygon(text) {
  let content;
  try {
    content = JSON.parse(text);
  } catch (error) {
    throw new Error(`This is no JSON: ${error.message}`);
  }
  const geometries = [content?.features?.[0]?.geometry, content?.geometry, content];
  const found = geometries.find((candidate) => ["Polygon", "MultiPolygon"].includes(candidate?.type));
  if (!found) throw new Error("Expected a GeoJSON Polygon or MultiPolygon.");
  L.geoJSON(found); // throws on coordinates that are none
  return { type: found.type, coordinates: found.coordinates };
}
