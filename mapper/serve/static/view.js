// The map itself: tiles, lines of longitude and latitude, outline, the pixel that was asked for.

import { make } from "./dom.js";
import { address, askImage, isAborted } from "./server.js";
import { wrap } from "./format.js";

const BEYOND = 5; // zooms beyond full resolution, to see single pixels
const STEPS = [30, 20, 10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0005, 0.0002, 0.0001];

/** Tiles that come by fetch, so that a token goes out as a header and an error comes with its reason. */
const Tiles = L.GridLayer.extend({
  createTile(coords, done) {
    const image = make("img", { alt: "", className: "tile" });
    image.aborter = new AbortController();
    askImage(this.options.addressOf(coords), { signal: image.aborter.signal })
      .then((blob) => {
        image.onload = image.onerror = (event) => {
          URL.revokeObjectURL(image.src);
          done(event.type === "error" ? new Error("a tile could not be shown") : null, image);
        };
        image.src = URL.createObjectURL(blob);
      })
      .catch((error) => { if (!isAborted(error)) done(error, image); });
    return image;
  },
});

export function makeView(element, { showStatus, fail }) {
  const map = L.map(element, {
    attributionControl: false, worldCopyJump: true, wheelPxPerZoomLevel: 120, minZoom: 0, maxZoom: 24, center: [0, 0], zoom: 2,
  });
  L.control.scale({ imperial: false, maxWidth: 140 }).addTo(map);
  const shown = { layer: null, outline: null, point: null };
  addGraticule(map);

  return {
    map,

    /** Show a variable of a version. */
    showLayer(layer, { ref, colormap, range, opacity }) {
      const sharp = window.devicePixelRatio > 1.5;
      const addressOf = ({ x, y, z }) => address(`tiles/${encodeURIComponent(ref)}/${layer.variable}/${z}/${x}/${y}.png`, {
        colormap, rescale: range?.join(","), scale: sharp ? 2 : null,
        resampling: z > layer.maxzoom ? "nearest" : null, // single pixels with their true edges
      });
      const before = shown.layer;
      const [west, south, east, north] = layer.bounds;
      const bounds = L.latLngBounds([south, west], [north, east]);
      const tiles = new Tiles({ addressOf, bounds, opacity, minNativeZoom: layer.minzoom, keepBuffer: 1 });
      tiles.on("tileunload", ({ tile }) => tile.aborter.abort());
      tiles.on("tileerror", ({ error }) => fail(error));
      tiles.on("loading", () => showStatus("Loading tiles …"));
      tiles.on("load", () => { showStatus(""); before?.remove(); });
      if (before?.replaced) before.replaced.remove();
      tiles.replaced = before;
      shown.layer = tiles.addTo(map);
      map.setMinZoom(Math.max(0, layer.minzoom - 2));
      map.setMaxZoom(Math.min(24, layer.maxzoom + BEYOND));
    },

    setOpacity: (opacity) => shown.layer?.setOpacity(opacity),

    fit(layer) {
      const [west, south, east, north] = layer.bounds;
      map.fitBounds([[south, west], [north, east]], { padding: [16, 16], animate: false });
    },

    /** Draw where the map has data to offer. */
    outline(geometry) {
      shown.outline?.remove();
      const style = { color: "#33566b", weight: 1.5, fill: false, interactive: false, dashArray: "4 3" };
      shown.outline = L.geoJSON(geometry, { style, interactive: false }).addTo(map);
    },

    /** Mark the pixel that was asked for. */
    mark(lat, lng) {
      shown.point ??= L.layerGroup([
        L.circleMarker([0, 0], { radius: 8, color: "#fff", weight: 5, fill: false, interactive: false }),
        L.circleMarker([0, 0], { radius: 8, color: "#b3261e", weight: 2.5, fill: false, interactive: false }),
      ]).addTo(map);
      shown.point.eachLayer((ring) => ring.setLatLng([lat, lng]));
    },
  };
}

/** Lines of longitude and latitude: there is no base map, since nothing is asked of other servers. */
function addGraticule(map) {
  const lines = L.layerGroup().addTo(map);
  const labels = make("div", { className: "graticule", ariaHidden: "true" });
  map.getContainer().append(labels);
  const style = { color: "#8fa1ad", weight: 0.7, opacity: 0.8, interactive: false };
  let marks = [];

  const moveLabels = () => {
    const size = map.getSize();
    for (const { label, lat, lng } of marks) {
      const point = map.latLngToContainerPoint([lat ?? map.getCenter().lat, lng ?? map.getCenter().lng]);
      const [x, y] = lng === null ? [0, point.y] : [point.x, 0];
      label.style.transform = `translate(${Math.round(x)}px, ${Math.round(y)}px)`;
      label.hidden = lng === null ? y < 24 : x > size.x - 150; // the corner is of one of them only
    }
  };

  const redraw = () => {
    const box = map.getBounds().pad(0.5);
    const wide = (box.getEast() - box.getWest()) / 2;
    const step = STEPS.findLast((candidate) => (wide / candidate) * 90 < map.getSize().x) ?? STEPS[0];
    const digits = Math.max(0, Math.ceil(-Math.log10(step) - 1e-9));
    lines.clearLayers();
    marks = [];
    const range = (low, high) => {
      const first = Math.ceil(low / step);
      return Array.from({ length: Math.max(0, Math.floor(high / step) - first + 1) }, (_, k) => (first + k) * step);
    };
    const [south, north] = [Math.max(box.getSouth(), -85), Math.min(box.getNorth(), 85)];
    for (const lng of range(box.getWest(), box.getEast())) {
      lines.addLayer(L.polyline([[south, lng], [north, lng]], style));
      const angle = wrap(lng);
      const text = `${Math.abs(angle).toFixed(digits)}° ${angle < 0 ? "W" : "E"}`;
      marks.push({ lat: null, lng, label: make("span", { className: "meridian" }, text) });
    }
    for (const lat of range(south, north)) {
      lines.addLayer(L.polyline([[lat, box.getWest()], [lat, box.getEast()]], style));
      const text = `${Math.abs(lat).toFixed(digits)}° ${lat < 0 ? "S" : "N"}`;
      marks.push({ lat, lng: null, label: make("span", { className: "parallel" }, text) });
    }
    labels.replaceChildren(...marks.map(({ label }) => label));
    moveLabels();
  };

  map.on("moveend zoomend resize", redraw);
  map.on("move", moveLabels);
  redraw();
}
