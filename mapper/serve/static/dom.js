// Elements are made from text, never from markup: what a store says of itself cannot become part of the page.

export const byId = (id) => document.getElementById(id);

/** An element with properties and children; strings become text. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

/** The same for pictures. */
export function draw(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Names and what they are, as a list; pairs without a value are left out. */
export function listPairs(pairs) {
  const list = make("dl", { className: "facts" });
  for (const [name, value] of pairs) {
    if (value === null || value === undefined || value === "") continue;
    list.append(make("dt", {}, name), make("dd", {}, value));
  }
  return list;
}

/** Options of a select, some of them in groups: {label, options} or {value, text}. */
export function fillSelect(select, entries, chosen) {
  const option = (entry) => make("option", { value: entry.value, textContent: entry.text });
  const nodes = entries.map((entry) => {
    if (!entry.options) return option(entry);
    const group = make("optgroup", { label: entry.label });
    group.append(...entry.options.map(option));
    return group;
  });
  select.replaceChildren(...nodes);
  select.value = chosen;
}

export function show(element, visible) {
  element.hidden = !visible;
}

/** Bring the card that an answer stands in into sight, if it is not. */
export function reveal(element) {
  const card = element.closest(".card");
  const { top, bottom } = card.getBoundingClientRect();
  const margin = parseFloat(getComputedStyle(card).scrollMarginTop) || 0;
  if (top < margin - 10 || bottom > window.innerHeight) card.scrollIntoView({ block: "start" });
}

/** Put text on the clipboard; browsers allow it on secure pages only, elsewhere the old way is tried. */
export async function copyText(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const field = make("textarea", { value: text, readOnly: true, className: "unseen" });
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
    button.focus();
  }
  const said = button.dataset.said ?? button.textContent;
  button.dataset.said = said;
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = said; }, 1500);
}
