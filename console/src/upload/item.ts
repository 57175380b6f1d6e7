// One file on its way, and the batch's record of all of them that outlives a reload.

import type { ProblemCode } from "./check.ts";

export type ItemState = "checking" | "ready" | "left_out" | "sending" | "sent" | "failed" | "cancelled";

export interface Item {
  index: number;
  // Null after a reload, until the file is dropped again.
  file: File | null;
  name: string;
  size: number;
  sha256: string | null;
  problem: ProblemCode | null;
  // The earlier file of the same bytes.
  twin: string | null;
  state: ItemState;
  // Bytes on their way.
  loaded: number;
  // The API's sentence, where it refused the file.
  error: string | null;
}

export interface Record {
  batchId: string;
  name: string;
  at: number;
  files: { index: number; name: string; size: number; sha256: string }[];
}

export function itemOf(index: number, name: string, file: File): Item {
  return {
    index, file, name, size: file.size, sha256: null, problem: null, twin: null, state: "checking", loaded: 0, error: null,
  };
}

// Names are the batch's own: a second one gets a number, as a file manager would.
export function withOwnNames(names: string[]): string[] {
  const taken = new Set<string>();
  return names.map((name) => {
    let own = name;
    const dot = name.lastIndexOf(".") > 0 ? name.lastIndexOf(".") : name.length;
    for (let n = 2; taken.has(own); n += 1) own = `${name.slice(0, dot)} (${n})${name.slice(dot)}`;
    taken.add(own);
    return own;
  });
}

// A request for each of ten thousand small files would take minutes, and one for all of them would be all or
// nothing: they go in rows. After a reload the same files go the same way, for that is what they are known by.
const MANY = 100;
const SMALL_BYTES_MAX = 256 * 1024;
const ROW_FILES_MAX = 200;
const ROW_BYTES_MAX = 8 * 1024 ** 2;

export interface Row {
  items: Item[];
  // Sent as files in a row, even where it is one only.
  together: boolean;
}

// What of these goes in the next request; only files in consecutive places can be in a row.
export function nextRow(items: Item[], of: Item[] = items): Row | null {
  const isSmall = (item: Item) => item.size <= SMALL_BYTES_MAX;
  const first = of.find((item) => item.state === "ready");
  if (!first) return null;
  const at = items.indexOf(first);
  const many = items.filter((item) => item.state !== "left_out" && isSmall(item)).length >= MANY;
  if (!many || !isSmall(first)) return { items: [first], together: false };
  let bytes = 0;
  let end = at;
  for (let item = items[end]; item?.state === "ready" && isSmall(item) && end - at < ROW_FILES_MAX; item = items[end]) {
    bytes += item.size;
    if (bytes > ROW_BYTES_MAX || item.index !== first.index + end - at) break;
    end += 1;
  }
  return { items: items.slice(at, end), together: true };
}

// Which dropped files are the missing ones of a record, by digest: each file once.
export function matched(missing: Item[], dropped: Item[]): { found: [Item, Item][]; others: Item[] } {
  const byDigest = new Map<string, Item[]>();
  for (const item of missing) {
    if (!item.sha256) continue;
    byDigest.set(item.sha256, [...(byDigest.get(item.sha256) ?? []), item]);
  }
  const found: [Item, Item][] = [];
  const others: Item[] = [];
  for (const one of dropped) {
    const item = one.sha256 ? byDigest.get(one.sha256)?.shift() : undefined;
    if (item) found.push([item, one]);
    else others.push(one);
  }
  return { found, others };
}
