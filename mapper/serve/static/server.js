// Requests to the server that the page came from, with the token if one was given.

const PLACE = "mapper-token";

export class Refusal extends Error {
  constructor(status, text, token) {
    super(text);
    this.status = status;
    this.token = token; // the one that was not good enough
  }
}

export const isTokenKnown = () => Boolean(sessionStorage.getItem(PLACE));
export const keepToken = (token) => sessionStorage.setItem(PLACE, token);
export const dropToken = () => sessionStorage.removeItem(PLACE);
export const isOutdated = (refusal) => refusal.token !== sessionStorage.getItem(PLACE);

/** Address of a route, relative to the page: it may be served below a path. */
export function address(route, parameters = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== null && value !== undefined && value !== "") query.set(name, value);
  }
  const text = query.toString();
  return text ? `${route}?${text}` : route;
}

/** The same, as others need it. */
export const absolute = (route) => new URL(".", document.baseURI).href + route;

async function ask(route, options = {}) {
  const token = sessionStorage.getItem(PLACE);
  const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  const answer = await fetch(route, { ...options, headers, credentials: "omit" });
  if (answer.ok) return answer;
  throw new Refusal(answer.status, await readReason(answer), token);
}

async function readReason(answer) {
  try {
    const { detail } = await answer.json();
    return typeof detail === "string" ? detail : `the server answered ${answer.status}`;
  } catch {
    return `the server answered ${answer.status}`;
  }
}

export async function askJson(route, options = {}) {
  return (await ask(route, options)).json();
}

/** The snapshot that a branch stands for now: its Zarr keys carry it as their ETag, which costs the server least. */
export async function askHead(ref) {
  const answer = await ask(`zarr/${encodeURIComponent(ref)}/zarr.json`, { method: "HEAD", cache: "no-store" });
  return (answer.headers.get("ETag") ?? "").replace('"', "").split("/")[0];
}

export async function askImage(route, options = {}) {
  return (await ask(route, options)).blob();
}

export function post(route, content, options = {}) {
  const headers = { "Content-Type": "application/json" };
  return askJson(route, { ...options, method: "POST", headers, body: JSON.stringify(content) });
}

/** Whether a request was ended by the page itself. */
export const isAborted = (error) => error.name === "AbortError";
