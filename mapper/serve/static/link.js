// The view in the address: what is shown can be sent to somebody else, and comes back after a reload.

const NAMES = ["version", "variable", "colours", "range", "opacity", "at", "pixel"];

export function readLink() {
  const given = new URLSearchParams(location.hash.slice(1));
  const link = {};
  for (const name of NAMES) if (given.has(name)) link[name] = given.get(name);
  const numbers = (text, count) => {
    const parts = (text ?? "").split(",").map((part) => (part.trim() ? Number(part) : NaN));
    return parts.length === count && parts.every(Number.isFinite) ? parts : null;
  };
  return {
    ref: link.version ?? "main",
    variable: link.variable ?? "",
    colormap: link.colours ?? "",
    range: numbers(link.range, 2),
    opacity: numbers(link.opacity, 1)?.[0] ?? 100,
    at: numbers(link.at, 3),
    pixel: numbers(link.pixel, 2),
  };
}

export function writeLink(state, ref = state.ref) {
  const given = new URLSearchParams();
  given.set("version", ref);
  given.set("variable", state.variable);
  if (state.colormap) given.set("colours", state.colormap);
  if (state.range) given.set("range", state.range.join(","));
  if (state.opacity !== 100) given.set("opacity", state.opacity);
  if (state.at) given.set("at", `${state.at[0].toFixed(6)},${state.at[1].toFixed(6)},${state.at[2]}`);
  if (state.pixel) given.set("pixel", state.pixel.map((angle) => angle.toFixed(7)).join(","));
  return `#${given.toString().replaceAll("%2C", ",")}`;
}
