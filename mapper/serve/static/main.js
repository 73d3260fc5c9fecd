// The page: what is shown, and what happens when people touch it.

import { makeArea } from "./area.js";
import { byId, copyText, fillSelect, reveal, show } from "./dom.js";
import { showElsewhere } from "./elsewhere.js";
import { showLegend } from "./legend.js";
import { readLink, writeLink } from "./link.js";
import { peek, showPixel } from "./pixel.js";
import { absolute, address, askHead, askJson, dropToken, isAborted, isOutdated, isTokenKnown, keepToken } from "./server.js";
import { makeView } from "./view.js";
import { fillVersions, isBranch, resolve } from "./versions.js";
import { formatPosition, formatTime, wrap } from "./format.js";

const COLORMAPS = ["viridis", "plasma", "inferno", "magma", "cividis", "gray", "ylgn", "rdylgn"];
const REST_MS = 160; // of the pointer, before a value is asked for
const POLL_MS = 30000; // between questions for new commits

const state = readLink();
let versions = null; // versions
let layer = null; // TileJSON of what is shown
let titles = {}; // of variables
let fixed = ""; // the snapshot that is shown: all questions are about the same one
let positioned = false; // whether the map is where the address says
let asking = new AbortController();

const showStatus = (text) => { byId("busy").textContent = text; show(byId("busy"), Boolean(text)); };
const clearFault = () => show(byId("fault"), false);
function fail(error) {
  if (isAborted(error)) return;
  if (error.status === 401) {
    if (!isOutdated(error)) askToken();
    return;
  }
  byId("fault").textContent = error.message;
  show(byId("fault"), true);
}

/** The value band that a layer shows or belongs to; empty for flags and counts, which belong to all. */
const bandOf = ({ role, variable, of }) => (role === "value" ? variable : of);

const view = makeView(byId("map"), { showStatus, fail });
const area = makeArea(view.map, () => ({ ref: fixed, variable: bandOf(layer) }));

function askToken() {
  const given = isTokenKnown();
  dropToken();
  show(byId("controls"), false);
  show(byId("token-form"), true);
  byId("fault").textContent = "This token is not the right one.";
  show(byId("fault"), given);
  byId("token").focus();
}

byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  keepToken(byId("token").value.trim());
  byId("token").value = "";
  clearFault();
  start();
});

/** Find out what there is and show it. */
async function start() {
  try {
    positioned = false;
    await openVersion(state.ref);
    show(byId("token-form"), false);
    show(byId("controls"), true);
    if (state.pixel) askPixel(...state.pixel, { keep: true });
  } catch (error) { fail(error); }
}

async function openVersion(ref) {
  clearFault();
  versions = await askJson(address("versions", { ref, limit: 50 }));
  state.ref = ref;
  fixed = resolve(versions, ref);
  fillVersions(versions, ref);
  show(byId("newer"), false);
  show(byId("links"), !isTokenKnown()); // a link cannot take a token along
  byId("stac-link").href = address("stac/item", { ref });
  const [item] = await Promise.all([askJson(address("stac/item", { ref: fixed })), openLayer()]);
  view.outline(item.geometry);
  describe(item);
}

function describe({ properties }) {
  const variables = properties["cube:variables"] ?? {};
  titles = Object.fromEntries(Object.entries(variables).map(([name, { description }]) => [name, description]));
  const text = (name) => ((titles[name] ?? name) === name ? name : `${titles[name]} (${name})`);
  fillSelect(byId("variable"), layer.variables.map((name) => ({ value: name, text: text(name) })), layer.variable);
  byId("title").textContent = properties.title;
  document.title = properties.title;
  const period = `${properties.start_datetime.slice(0, 10)} to ${properties.end_datetime.slice(0, 10)}`;
  const made = properties["mlm:name"] ? `, model ${properties["mlm:name"]}` : "";
  byId("lineage").textContent =
    `${properties["processing:lineage"]} Observations of ${period}${made}. Snapshot ${fixed}, written ${formatTime(properties.updated)}.`;
}

async function askLayer() {
  const asked = { ref: fixed, variable: state.variable, colormap: state.colormap, rescale: state.range?.join(",") };
  try {
    return await askJson(address("tilejson.json", asked));
  } catch (error) { // a link may ask for colours that a variable cannot have
    if (error.status !== 422 || !(state.colormap || state.range)) throw error;
    Object.assign(state, { colormap: "", range: null });
    return askJson(address("tilejson.json", { ref: fixed, variable: state.variable }));
  }
}

/** Ask how a variable is drawn, then draw it. */
async function openLayer() {
  layer = await askLayer();
  layer.title = layer.name.slice(layer.name.indexOf(": ") + 2);
  state.variable = layer.variable;
  fillSelect(byId("colormap"), COLORMAPS.map((name) => ({ value: name, text: name })), layer.colormap ?? "viridis");
  byId("variable").value = layer.variable;
  byId("opacity").value = state.opacity;
  byId("opacity-said").textContent = `${state.opacity} %`;
  showLegend(layer);
  if (!positioned) goToStart();
  view.showLayer(layer, { ref: fixed, colormap: layer.colormap, range: layer.rescale, opacity: state.opacity / 100 });
  remember();
}

/** Go where the address says, or where the map is, before any tile is asked for. */
function goToStart() {
  if (state.at) view.map.setView(state.at.slice(0, 2), state.at[2], { animate: false });
  else view.fit(layer);
  positioned = true;
}

const redraw = () => { clearFault(); return openLayer().catch(fail); };

/** Keep the view in the address. */
function remember() {
  const { lat, lng } = view.map.getCenter();
  if (!layer || !positioned) return;
  state.at = [lat, wrap(lng), view.map.getZoom()];
  history.replaceState(null, "", writeLink(state));
  showElsewhere({ ref: state.ref, variable: layer.variable, at: state.pixel ?? state.at });
}

function askPixel(lat, lng, { keep = false } = {}) {
  asking.abort();
  asking = new AbortController();
  state.pixel = [lat, wrap(lng)];
  byId("lat").value = lat.toFixed(6);
  byId("lon").value = wrap(lng).toFixed(6);
  view.mark(lat, lng);
  remember();
  const options = { titles, onVersion: (ref) => openVersion(ref).then(() => askPixel(lat, lng)).catch(fail), signal: asking.signal };
  return showPixel(lat, wrap(lng), fixed, options).then(() => {
    if (!keep) reveal(byId("pixel"));
  });
}

// Controls ---------------------------------------------------------------------------------------------------------

byId("version").addEventListener("change", ({ target }) => openVersion(target.value)
  .then(() => { if (state.pixel) askPixel(...state.pixel, { keep: true }); area.repeat(); }).catch(fail));
byId("variable").addEventListener("change", async ({ target }) => {
  const before = bandOf(layer);
  Object.assign(state, { variable: target.value, colormap: "", range: null });
  await redraw();
  if (bandOf(layer) && bandOf(layer) !== before) area.repeat(); // a polygon tells of the band that is shown
});
byId("colormap").addEventListener("change", ({ target }) => { state.colormap = target.value; redraw(); });
byId("opacity").addEventListener("input", ({ target }) => {
  state.opacity = Number(target.value);
  byId("opacity-said").textContent = `${state.opacity} %`;
  view.setOpacity(state.opacity / 100);
});
byId("opacity").addEventListener("change", remember);
byId("range").addEventListener("submit", (event) => event.preventDefault());
byId("range").addEventListener("change", () => {
  const range = [Number(byId("low").value), Number(byId("high").value)];
  if (!(range[0] < range[1])) { fail(new Error("The range must rise: “from” smaller than “to”.")); return; }
  state.range = range;
  redraw();
});
byId("range-reset").addEventListener("click", () => { state.range = null; redraw(); });
byId("goto").addEventListener("submit", (event) => {
  event.preventDefault();
  const [lat, lng] = [Number(byId("lat").value), Number(byId("lon").value)];
  if (!view.map.getBounds().contains([lat, lng])) view.map.panTo([lat, lng], { animate: false });
  askPixel(lat, lng);
});
byId("copy-link").addEventListener("click", ({ target }) => copyText(absolute("") + writeLink(state), target));
byId("copy-fixed").addEventListener("click", ({ target }) => copyText(absolute("") + writeLink(state, fixed), target));
byId("show-newer").addEventListener("click", () => openVersion(state.ref).catch(fail));

// The map ----------------------------------------------------------------------------------------------------------

view.map.on("moveend", remember);
view.map.on("click", ({ latlng }) => { if (layer && !area.isDrawing()) askPixel(latlng.lat, latlng.lng); });
byId("map").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !layer || area.isDrawing()) return;
  const { lat, lng } = view.map.getCenter();
  askPixel(lat, lng);
});

let resting = 0;
let peeking = new AbortController();
view.map.on("mousemove", ({ latlng: { lat, lng } }) => {
  if (!layer) return;
  clearTimeout(resting);
  peeking.abort();
  const position = formatPosition(lat, wrap(lng));
  byId("pointer").textContent = position;
  show(byId("pointer"), true);
  const [west, south, east, north] = layer.bounds;
  if (lat < south || lat > north || wrap(lng) < west || wrap(lng) > east) return;
  resting = setTimeout(async () => {
    peeking = new AbortController();
    const { signal } = peeking;
    const value = await peek(lat, wrap(lng), fixed, layer, signal);
    if (value && !signal.aborted) byId("pointer").textContent = `${position}:  ${value}`;
  }, REST_MS);
});
view.map.on("mouseout", () => { clearTimeout(resting); peeking.abort(); show(byId("pointer"), false); });

// A branch grows: show it, and let people choose when to open it.
async function checkForNewer() {
  if (document.hidden || !versions || !isBranch(versions, state.ref)) return;
  try {
    const head = await askHead(state.ref);
    show(byId("newer"), Boolean(head) && head !== fixed);
  } catch { /* the next question may succeed */ }
}
setInterval(checkForNewer, POLL_MS);
window.addEventListener("focus", checkForNewer);

window.addEventListener("hashchange", () => { Object.assign(state, readLink()); start(); });
start();
