// The store against the vectors that the projector's own folds wrote (tests/house/console_vectors.py).

import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { progressOf } from "../src/live/progress.ts";
import { archivedBy, foldArchived, foldBatch, foldFile } from "../src/live/store.ts";
import type { Batch, Event, File } from "../src/live/types.ts";

interface Bodies { batches: Batch[]; files: File[] }
interface Vector { seed: number; now_ms: number; events: Event[]; middle: Bodies & { seq: number }; end: Bodies }
const VECTORS: Vector[] = JSON.parse(readFileSync(new URL("./vectors.json", import.meta.url), "utf-8"));

function fold(events: Event[], from: Bodies = { batches: [], files: [] }) {
  const batches = new Map(from.batches.map((batch) => [batch.id, batch]));
  const files = new Map(from.files.map((file) => [file.id, file]));
  for (const event of events) {
    const batch = foldBatch(batches.get(event.batchid), event);
    if (batch) batches.set(batch.id, batch);
    for (const id of archivedBy(event)) {
      const file = files.get(id);
      if (file) files.set(id, foldArchived(file, event));
    }
    if (!event.fileid) continue;
    const file = foldFile(files.get(event.fileid), event);
    if (file) files.set(file.id, file);
  }
  return { batches, files };
}

// The server may know more of a row than its events tell; what the store has must be the same.
function expectSame<T extends object>(mine: T | undefined, body: object): void {
  expect(mine).toBeDefined();
  const known = Object.fromEntries(Object.entries(body).filter(([name]) => name in (mine ?? {})));
  const own = Object.fromEntries(Object.entries(mine ?? {}).filter(([name]) => name in body));
  expect(own).toEqual(known);
}

describe.each(VECTORS)("vector $seed", (vector) => {
  test("all events from the first one make the projector's rows", () => {
    const { batches, files } = fold(vector.events);
    expect(batches.size).toBe(vector.end.batches.length);
    expect(files.size).toBe(vector.end.files.length);
    for (const body of vector.end.batches) {
      const batch = batches.get(body.id);
      // The counts have a file before its next attempt as queued: why such a batch waits, only the server tells.
      const told = ["retry", "confirmation"].includes(body.progress.waiting_reason ?? "");
      expectSame(batch && { ...batch, progress: told ? body.progress : progressOf(batch, vector.now_ms) }, body);
    }
    for (const body of vector.end.files) expectSame(files.get(body.id), body);
  });

  test("what is read in the middle and the events after it make the same rows", () => {
    const { batches, files } = fold(vector.events.filter((event) => event.seq > vector.middle.seq), vector.middle);
    for (const body of vector.end.batches) {
      const batch = batches.get(body.id);
      // A rate since a retry needs the retry's event, which was before.
      expectSame(batch && { ...batch, progress: body.progress }, body);
    }
    for (const body of vector.end.files) expectSame(files.get(body.id), body);
  });

  test("events that come again change nothing", () => {
    const once = fold(vector.events);
    const twice = fold([...vector.events, ...vector.events]);
    expect([...twice.batches.values()]).toEqual([...once.batches.values()]);
    expect([...twice.files.values()]).toEqual([...once.files.values()]);
  });
});

test("the vectors tell of every event that changes a row", () => {
  const kinds = new Set(VECTORS.flatMap((vector) => vector.events.map((event) => event.type.split(".")[1])));
  for (const kind of ["BatchCreated", "BatchSealed", "BatchPaused", "BatchResumed", "BatchCancelled", "FilesRetried", "BatchCompleted",
    "SourcesArchived", "FileQueued", "FileRejected", "FileStarted", "FileWaiting", "FileCompleted", "FileAttemptFailed", "FileFailed", "FileCancelled"]) {
    expect(kinds).toContain(kind);
  }
});
