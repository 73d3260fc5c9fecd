// Versions to choose from: branches, tags, and the snapshots that led to what is shown.

import { byId, fillSelect } from "./dom.js";
import { sayTime, shorten } from "./words.js";

/** Snapshot that a name stands for, among the versions that the server told; the name itself if it is a snapshot. */
export function resolve(told, ref) {
  return [...told.branches, ...told.tags].find(({ name }) => name === ref)?.snapshot ?? ref;
}

export const isBranch = (told, ref) => told.branches.some(({ name }) => name === ref);

export function fillVersions(told, ref) {
  const named = ({ name, written_at }) => ({ value: name, text: `${name} – ${sayTime(written_at)}` });
  const snapshots = told.snapshots.map(({ snapshot, written_at }) => ({
    value: snapshot, text: `${sayTime(written_at)} – ${shorten(snapshot)}`,
  }));
  const known = [...told.branches, ...told.tags].some(({ name }) => name === ref)
    || told.snapshots.some(({ snapshot }) => snapshot === ref);
  if (!known) snapshots.unshift({ value: ref, text: shorten(ref, 20) });
  const groups = [
    { label: "Branches (follow new commits)", options: told.branches.map(named) },
    { label: "Tags", options: told.tags.map(named) },
    { label: "Snapshots (fixed for ever)", options: snapshots },
  ].filter(({ options }) => options.length);
  fillSelect(byId("version"), groups, ref);
}
