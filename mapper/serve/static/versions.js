// Versions to choose from: branches, tags, and the snapshots that led to what is shown.

import { byId, fillSelect } from "./dom.js";
import { formatTime, shorten } from "./format.js";

/** Snapshot that a name stands for, among the versions of the server; the name itself if it is a snapshot. */
export function resolve(versions, ref) {
  return [...versions.branches, ...versions.tags].find(({ name }) => name === ref)?.snapshot ?? ref;
}

export const isBranch = (versions, ref) => versions.branches.some(({ name }) => name === ref);

export function fillVersions(versions, ref) {
  const named = ({ name, written_at }) => ({ value: name, text: `${name} – ${formatTime(written_at)}` });
  const snapshots = versions.snapshots.map(({ snapshot, written_at }) => ({
    value: snapshot, text: `${formatTime(written_at)} – ${shorten(snapshot)}`,
  }));
  const known = [...versions.branches, ...versions.tags].some(({ name }) => name === ref)
    || versions.snapshots.some(({ snapshot }) => snapshot === ref);
  if (!known) snapshots.unshift({ value: ref, text: shorten(ref, 20) });
  const groups = [
    { label: "Branches (follow new commits)", options: versions.branches.map(named) },
    { label: "Tags", options: versions.tags.map(named) },
    { label: "Snapshots (fixed for ever)", options: snapshots },
  ].filter(({ options }) => options.length);
  fillSelect(byId("version"), groups, ref);
}
