// A pixel: what it holds, what made it, what it held before.

import { byId, listFacts, make } from "./dom.js";
import { address, askJson, isAborted } from "./server.js";
import { sayDay, sayNumber, sayPlace, sayTime, sayUnits, sayValue, shorten } from "./words.js";

const DIGITS = 7; // of a degree: a centimetre

function question(lat, lng, ref) {
  return { x: lng.toFixed(DIGITS), y: lat.toFixed(DIGITS), crs: "EPSG:4326", ref };
}

/** Ask for a pixel and its history and show both. */
export async function showPixel(lat, lng, ref, { titles, onVersion, signal }) {
  const place = byId("pixel");
  place.replaceChildren(make("p", { className: "hint" }, "Asking …"));
  try {
    const asked = question(lat, lng, ref);
    const [pixel, history] = await Promise.all([
      askJson(address("pixel", asked), { signal }),
      askJson(address("history", { ...asked, limit: 10 }), { signal }),
    ]);
    place.replaceChildren(
      ...describeValue(pixel, titles, lat, lng),
      describeQuality(pixel),
      describeRecord(pixel),
      describeItems(pixel.record?.items ?? []),
      describeHistory(history.versions, onVersion),
    );
  } catch (error) {
    if (!isAborted(error)) place.replaceChildren(make("p", { className: "notice fault" }, error.message));
  }
}

/** The value of a variable at a point, for the pointer; empty outside the map. */
export async function peek(lat, lng, ref, { variable, role, of }, signal) {
  try {
    const pixel = await askJson(address("pixel", question(lat, lng, ref)), { signal });
    const band = pixel.bands.find(({ name }) => name === (of || variable));
    if (role === "value") return sayWithDeviation(band);
    if (role === "sd") return `± ${sayValue(band.sd, band.units)}`;
    if (role === "count") return `${pixel.n_valid} valid observations`;
    if (role === "channel") return sayNumber(pixel.channels[variable]);
    return pixel.flags.map((flag) => flag.replaceAll("_", " ")).join(", ") || "nothing to remark";
  } catch {
    return "";
  }
}

function sayWithDeviation({ value, sd, units }) {
  if (value === null) return "no value";
  return `${sayNumber(value)}${sd === null ? "" : ` ± ${sayNumber(sd, 3)}`} ${sayUnits(units)}`;
}

function describeValue(pixel, titles, lat, lng) {
  const where = make("p", { className: "hint" }, sayPlace(lat, lng));
  const channels = Object.entries(pixel.channels);
  if (channels.length) {
    return [where, listFacts(channels.map(([name, value]) => [name, sayNumber(value)]))];
  }
  if (pixel.bands.length > 1) {
    return [where, listFacts(pixel.bands.map((band) => [titles[band.name] ?? band.name, sayWithDeviation(band)]))];
  }
  const title = titles[pixel.target] ?? pixel.target;
  return [make("p", { className: "value" }, sayWithDeviation(pixel)), make("p", { className: "hint" }, title), where];
}

function describeQuality({ quality, n_valid }) {
  const rows = quality.map(({ flag, meaning }) =>
    make("li", {}, make("strong", {}, flag.replaceAll("_", " ")), `: ${meaning}`));
  const seen = `${n_valid} valid observation${n_valid === 1 ? "" : "s"} entered the guide.`;
  return make("div", { className: "quality" },
    rows.length ? make("ul", {}, ...rows) : make("p", {}, "Nothing to remark."), make("p", { className: "hint" }, seen));
}

function describeRecord({ record, snapshot, written_at, tile, row, col }) {
  if (!record) return make("p", {}, "This tile was never attempted.");
  const stages = Object.entries(record.seconds ?? {}).map(([stage, seconds]) => `${stage} ${seconds.toFixed(1)} s`);
  const code = (text) => (text ? make("code", {}, text) : "");
  return listFacts([
    ["Status", record.status === "ok" ? "" : `${record.status}: ${record.reason}`],
    ["Model", record.model ? `${record.model} (${shorten(record.model_digest, 12)})` : "none: composites only"],
    ["Written", written_at ? sayTime(written_at) : "at a version that has expired"],
    ["Snapshot", code(snapshot)],
    ["Run", code(record.run_id)],
    ["Tile, pixel", `tile ${tile.row}, ${tile.col} · row ${row}, column ${col}`],
    ["Code", record.code_version ? `mapper ${record.code_version}` : ""],
    ["Computed on", [record.worker, record.device, stages.join(", ")].filter(Boolean).join(" · ")],
    ["Guide store", record.guide_store],
  ]);
}

function describeItems(items) {
  if (!items.length) return make("p", { className: "hint" }, "No items on record.");
  const dropped = items.filter((item) => item.dropped).length;
  const sorted = [...items].sort((a, b) => a.role.localeCompare(b.role) || a.datetime.localeCompare(b.datetime));
  const rows = sorted.map((item) => make("tr", { className: item.dropped ? "dropped" : "" },
    make("td", {}, item.role), make("td", {}, sayDay(item.datetime)),
    make("td", {}, make("span", { title: item.calibration }, item.id), make("br"),
      make("small", {}, item.dropped ? `left out: ${item.dropped}` : item.collection))));
  const head = make("tr", {}, ...["Role", "Date", "Item"].map((name) => make("th", { scope: "col" }, name)));
  const said = `${items.length} item${items.length === 1 ? "" : "s"} made it${dropped ? `, ${dropped} left out` : ""}`;
  return make("details", {}, make("summary", {}, said),
    make("div", { className: "scroll" }, make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows))));
}

function describeHistory(versions, onVersion) {
  if (versions.length < 2) return make("p", { className: "hint" }, "No earlier version of this pixel.");
  const rows = versions.map((version, number) => {
    const button = make("button", { type: "button", title: `Show the map as of ${version.snapshot}` }, "Show");
    button.addEventListener("click", () => onVersion(version.snapshot));
    const said = version.status === "ok" ? version.bands.map(sayWithDeviation).join("; ") : `${version.status}: ${version.reason}`;
    const what = make("td", {}, said, make("br"), make("small", {}, version.model));
    return make("tr", {}, make("td", {}, sayTime(version.written_at)), what,
      make("td", {}, number && version.snapshot ? button : number ? "" : "shown"));
  });
  return make("div", { className: "history" }, make("h3", {}, "History"),
    make("table", {}, make("tbody", {}, ...rows)));
}
