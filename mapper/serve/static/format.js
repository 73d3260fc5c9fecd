// Numbers, units and times as people read them.

const SUPERSCRIPTS = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };

/** "Mg ha-1" as "Mg ha⁻¹"; "1" is no unit. */
export function formatUnits(units) {
  if (!units || units === "1") return "";
  return units.replace(/(?<=[A-Za-z])-?\d+/g, (power) => [...power].map((sign) => SUPERSCRIPTS[sign]).join(""));
}

/** A number with so many digits that count, grouped; a dash where there is none. */
export function formatNumber(value, digits = 4) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e15)) return value.toPrecision(digits);
  const whole = Math.abs(value) >= 10 ** digits;
  return value.toLocaleString("en", whole ? { maximumFractionDigits: 0 } : { maximumSignificantDigits: digits });
}

export function formatValue(value, units, digits = 4) {
  const unit = formatUnits(units);
  return unit && value !== null ? `${formatNumber(value, digits)} ${unit}` : formatNumber(value, digits);
}

/** ISO 8601 as "21 Nov 2026, 19:44 UTC". */
export function formatTime(text) {
  const time = new Date(text);
  if (!text || Number.isNaN(time.getTime())) return "unknown";
  const day = time.toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });
  const clock = time.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", timeZone: "UTC" });
  return `${day}, ${clock} UTC`;
}

export const formatDay = (text) => (text ? text.slice(0, 10) : "unknown");

export function formatPosition(lat, lng, places = 5) {
  const part = (angle, positive, negative) => `${Math.abs(angle).toFixed(places)}° ${angle < 0 ? negative : positive}`;
  return `${part(lat, "N", "S")}, ${part(lng, "E", "W")}`;
}

export const shorten = (id, length = 8) => (id && id.length > length ? `${id.slice(0, length)}…` : id);

/** Longitude between -180 and 180. */
export const wrap = (lng) => ((((lng + 180) % 360) + 360) % 360) - 180;
