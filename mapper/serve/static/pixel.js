// A pixel: what it holds, what made it, what it held before.

import { byId, listPairs, make } from "./dom.js";
import { address, askJson, isAborted } from "./server.js";
import { formatDay, formatNumber, formatPosition, formatTime, formatUnits, formatValue, shorten } from "./format.js";

const DIGITS = 7; // of a degree: a centimetre

function question(lat, lng, ref) {
  return { x: lng.toFixed(DIGITS), y: lat.toFixed(DIGITS), crs: "EPSG:4326", ref };
}

/** Ask for a pixel and its history and show both. */
export async function showPixel(lat, lng, ref, { titles, onVersion, signal }) {
  const panel = byId("pixel");
  panel.replaceChildren(make("p", { className: "hint" }, "Asking …"));
  try {
    const asked = question(lat, lng, ref);
    const [pixel, history] = await Promise.all([
      askJson(address("pixel", asked), { signal }),
      askJson(address("history", { ...asked, limit: 10 }), { signal }),
    ]);
    panel.replaceChildren(
      ...describeValue(pixel, titles, lat, lng),
      describeQuality(pixel),
      ...describeAncillary(pixel.ancillary, titles),
      describeRecord(pixel),
      describeItems(pixel.record?.items ?? []),
      describeHistory(history.versions, onVersion),
    );
  } catch (error) {
    if (!isAborted(error)) panel.replaceChildren(make("p", { className: "notice fault" }, error.message));
  }
}

/** The value of a variable at a point, for the pointer; empty outside the map. */
export async function peek(lat, lng, ref, { variable, role, of }, signal) {
  try {
    const pixel = await askJson(address("pixel", question(lat, lng, ref)), { signal });
    const band = pixel.bands.find(({ name }) => name === (of || variable));
    if (role === "value") return formatWithSd(band);
    if (role === "sd") return `± ${formatValue(band.sd, band.units)}`;
    if (role === "count") return `${pixel.n_valid} valid observations`;
    if (role === "ancillary") return formatAncillary(pixel.ancillary[variable]);
    if (role === "channel") return formatNumber(pixel.channels[variable]);
    return pixel.flags.map((flag) => flag.replaceAll("_", " ")).join(", ") || "nothing to remark";
  } catch {
    return "";
  }
}

function formatWithSd({ value, sd, units }) {
  if (value === null) return "no value";
  return `${formatNumber(value)}${sd === null ? "" : ` ± ${formatNumber(sd, 3)}`} ${formatUnits(units)}`;
}

function describeValue(pixel, titles, lat, lng) {
  const where = make("p", { className: "hint" }, formatPosition(lat, lng));
  const channels = Object.entries(pixel.channels);
  if (channels.length) {
    return [where, listPairs(channels.map(([name, value]) => [name, formatNumber(value)]))];
  }
  if (pixel.bands.length > 1) {
    return [where, listPairs(pixel.bands.map((band) => [titles[band.name] ?? band.name, formatWithSd(band)]))];
  }
  const title = titles[pixel.target] ?? pixel.target;
  return [make("p", { className: "value" }, formatWithSd(pixel)), make("p", { className: "hint" }, title), where];
}

function describeQuality({ quality, n_valid }) {
  const rows = quality.map(({ flag, meaning }) =>
    make("li", {}, make("strong", {}, flag.replaceAll("_", " ")), `: ${meaning}`));
  const seen = `${n_valid} valid observation${n_valid === 1 ? "" : "s"} entered the guide.`;
  return make("div", { className: "quality" },
    rows.length ? make("ul", {}, ...rows) : make("p", {}, "Nothing to remark."), make("p", { className: "hint" }, seen));
}

function formatAncillary(value) {
  if (value === null || value === undefined) return "no value";
  return typeof value === "string" ? formatDay(value) : formatNumber(value, 3);
}

function describeAncillary(ancillary, titles) {
  const rows = Object.entries(ancillary ?? {}).map(([name, value]) => [titles[name] ?? name, formatAncillary(value)]);
  return rows.length ? [listPairs(rows)] : [];
}

function describeRecord({ record, snapshot, written_at, tile, row, col }) {
  if (!record) return make("p", {}, "This tile was never attempted.");
  const stages = Object.entries(record.seconds ?? {}).map(([stage, seconds]) => `${stage} ${seconds.toFixed(1)} s`);
  const code = (text) => (text ? make("code", {}, text) : "");
  return listPairs([
    ["Status", record.status === "ok" ? "" : `${record.status}: ${record.reason}`],
    ["Model", record.model ? `${record.model} (${shorten(record.model_digest, 12)})` : "none: composites only"],
    ["Written", written_at ? formatTime(written_at) : "at a version that has expired"],
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
    make("td", {}, item.role), make("td", {}, formatDay(item.datetime)),
    make("td", {}, make("span", { title: item.calibration }, item.id), make("br"),
      make("small", {}, item.dropped ? `left out: ${item.dropped}` : item.collection))));
  const head = make("tr", {}, ...["Role", "Date", "Item"].map((name) => make("th", { scope: "col" }, name)));
  const text = `${items.length} item${items.length === 1 ? "" : "s"} made it${dropped ? `, ${dropped} left out` : ""}`;
  return make("details", {}, make("summary", {}, text),
    make("div", { className: "scroll" }, make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows))));
}

function describeHistory(versions, onVersion) {
  if (versions.length < 2) return make("p", { className: "hint" }, "No earlier version of this pixel.");
  const rows = versions.map((version, number) => {
    const button = make("button", { type: "button", title: `Show the map as of ${version.snapshot}` }, "Show");
    button.addEventListener("click", () => onVersion(version.snapshot));
    const text = version.status === "ok" ? version.bands.map(formatWithSd).join("; ") : `${version.status}: ${version.reason}`;
    const what = make("td", {}, text, make("br"), make("small", {}, version.model));
    return make("tr", {}, make("td", {}, formatTime(version.written_at)), what,
      make("td", {}, number && version.snapshot ? button : number ? "" : "shown"));
  });
  return make("div", { className: "history" }, make("h3", {}, "History"),
    make("table", {}, make("tbody", {}, ...rows)));
}
