// Drawing a polygon: corners by click or touch; Enter or a double click closes it, Backspace takes a corner back.

import { byId, show } from "./dom.js";

const LINE = { color: "#a3201a", weight: 2.5, interactive: false };
const FEWEST = 3;

/** Calls back with corners [[lng, lat], ...], not closed, once there are enough. */
export function makePencil(map, onDone) {
  const shapes = L.layerGroup().addTo(map);
  let corners = null;

  const sketch = (pointer) => {
    shapes.clearLayers();
    const places = pointer ? [...corners, pointer] : corners;
    shapes.addLayer(L.polyline(places, { ...LINE, color: "#fff", weight: 5, opacity: 0.85 }));
    shapes.addLayer(L.polyline(places, { ...LINE, dashArray: "6 4" }));
    for (const corner of corners) {
      shapes.addLayer(L.circleMarker(corner, { ...LINE, radius: 4, fillColor: "#fff", fillOpacity: 1, weight: 2 }));
    }
    const left = FEWEST - corners.length;
    byId("drawing-hint").textContent = left > 0
      ? `Set ${left} more corner${left > 1 ? "s" : ""}.` : "Set more corners, or close it (Enter, double click).";
    byId("drawing-close").disabled = left > 0;
    byId("drawing-undo").disabled = corners.length === 0;
  };

  const add = ({ latlng, originalEvent }) => {
    if (originalEvent.detail > 1) return; // the second click of a double click is no corner of its own
    corners.push(latlng);
    sketch();
  };
  const follow = ({ latlng }) => { if (corners.length) sketch(latlng); };
  const finish = () => { if (corners && corners.length >= FEWEST) done(corners); };
  const undo = () => { corners.pop(); sketch(); };

  const press = (event) => {
    if (["INPUT", "TEXTAREA", "SELECT"].includes(event.target.tagName)) return;
    const actions = { Enter: finish, Escape: stop, Backspace: undo };
    if (!(event.key in actions) || (event.key === "Enter" && event.target.tagName === "BUTTON")) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    actions[event.key]();
  };

  function start() {
    stop();
    corners = [];
    map.doubleClickZoom.disable();
    map.on("click", add).on("mousemove", follow).on("dblclick", finish);
    document.addEventListener("keydown", press, { capture: true });
    map.getContainer().classList.add("drawing");
    show(byId("drawing"), true);
    sketch();
  }

  function stop() {
    if (!corners) return;
    corners = null;
    shapes.clearLayers();
    map.off("click", add).off("mousemove", follow).off("dblclick", finish);
    document.removeEventListener("keydown", press, { capture: true });
    map.getContainer().classList.remove("drawing");
    show(byId("drawing"), false);
    setTimeout(() => map.doubleClickZoom.enable(), 0); // not for the double click under way
  }

  function done(places) {
    stop();
    onDone(places.map(({ lat, lng }) => [lng, lat]));
  }

  byId("drawing-close").addEventListener("click", finish);
  byId("drawing-undo").addEventListener("click", undo);
  byId("drawing-stop").addEventListener("click", stop);
  return { start, stop, isDrawing: () => corners !== null };
}
