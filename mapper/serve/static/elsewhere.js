// How to open what is shown in other programs: text to copy.

import { byId, copyText, make } from "./dom.js";
import { absolute, isTokenKnown } from "./server.js";

export function showElsewhere({ ref, variable, at }) {
  const zarr = absolute(`zarr/${ref}`);
  const entries = [
    ["Python (xarray)", writePython(zarr, variable)],
    ["QGIS: new WMS/WMTS connection", absolute(`wmts?ref=${ref}`)],
    ["QGIS: new XYZ connection", absolute(`tiles/${ref}/${variable}/{z}/{x}/{y}.png`)],
    ["GDAL 3.13 or newer", `gdal raster info 'ZARR:"/vsicurl/${zarr}":/${variable}'${isTokenKnown() ? writeGdalToken() : ""}`],
    ["A pixel (curl)", `curl ${isTokenKnown() ? "-H 'Authorization: Bearer TOKEN' " : ""}'${absolute(`pixel?x=${at[1].toFixed(5)}&y=${at[0].toFixed(5)}&ref=${ref}`)}'`],
  ];
  const note = isTokenKnown()
    ? make("p", { className: "hint" }, "Replace TOKEN. QGIS: make an authentication configuration “API Header” with Authorization = Bearer TOKEN.")
    : "";
  byId("elsewhere").replaceChildren(...entries.map(([name, text]) => describe(name, text)), note);
}

function describe(name, text) {
  const copy = make("button", { type: "button", ariaLabel: `Copy: ${name}` }, "Copy");
  copy.addEventListener("click", () => copyText(text, copy));
  return make("div", { className: "snippet" }, make("div", { className: "row" }, make("h3", {}, name), copy), make("pre", { tabIndex: 0 }, text));
}

function writePython(zarr, variable) {
  const options = isTokenKnown() ? '\n    storage_options={"headers": {"Authorization": "Bearer TOKEN"}},' : "";
  return "import xarray as xr  # with zarr, dask, fsspec, aiohttp\n\n" +
    `ds = xr.open_dataset(\n    "${zarr}",\n    engine="zarr", decode_coords="all", chunks={},${options}\n)\nds["${variable}"]`;
}

const writeGdalToken = () => " \\\n  --config 'GDAL_HTTP_HEADERS=Authorization: Bearer TOKEN'";
