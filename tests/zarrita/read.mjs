// Reads arrays of a store over HTTP, as a page in a browser would.
//
//     node read.mjs URL FOLDER PATH...
//
// The numbers of each array go to FOLDER, as they are in memory, named by their place on the command line; what is said
// of the arrays is printed as JSON. SUFFIX=1 asks for the ends of objects without asking for their sizes first.

import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import * as zarr from "zarrita";

const [url, folder, ...paths] = process.argv.slice(2);
const store = await zarr.withConsolidatedMetadata(
  new zarr.FetchStore(url, { useSuffixRequest: process.env.SUFFIX === "1" }),
);
const root = await zarr.open.v3(store, { kind: "group" });

const arrays = {};
for (const [place, path] of paths.entries()) {
  const array = await zarr.open.v3(root.resolve(path), { kind: "array" });
  const { data } = await zarr.get(array);
  await writeFile(join(folder, `${place}`), new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  arrays[path] = {
    type: array.dtype,
    shape: array.shape,
    chunks: array.chunks,
    dimensions: array.dimensionNames,
    fill: String(array.fillValue),
    attributes: array.attrs,
    mean: meanOf(data, array.attrs),
  };
}
console.log(JSON.stringify({ attributes: root.attrs, contents: store.contents(), arrays }));

// The mean of what is not missing, in units, by what the attributes say.
function meanOf(data, { _FillValue: missing, scale_factor: scale = 1, add_offset: offset = 0 }) {
  let sum = 0;
  let count = 0;
  for (const number of data) {
    if (number !== missing && !Number.isNaN(number)) {
      sum += number * scale + offset;
      count += 1;
    }
  }
  return sum / count;
}
