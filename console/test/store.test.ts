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
  const together = new Set(VECTORS.flatMap((vector) => vector.events.filter((event) => event.part).map((event) => event.type.split(".")[1])));
  expect(together).toEqual(new Set(["FileQueued", "FileCompleted"]));
});

describe("a position that tells of ten files", () => {
  const head = { time: "2026-11-26T09:00:00.000Z", batchid: "bat_1", source: "/gateway/1" };
  const created: Event = { ...head, id: "evt_1", seq: 1, type: "tanda.BatchCreated.v1", data: { name: "noviembre" } };
  const part = (seq: number, at: number, kind: string, data: object): Event => ({
    ...head, id: `evt_${seq}.${at}`, seq, part: at, type: `tanda.${kind}.v1`, fileid: `fil_${at}`, data,
  });
  const numbers = [...Array(10).keys()];
  const queued = numbers.map((at) => part(2, at, "FileQueued", { name: `${at}.xml`, index: at, content_type: "application/xml", bytes: 7, effort: 3 }));
  const done = numbers.map((at) => part(3, at, "FileCompleted", { processor: "noop", duration_ms: 1, previous: "queued", started_at: head.time, effort: 3 }));
  const all = [created, ...queued, ...done];
  const countsOf = (events: Event[], from?: Bodies) => fold(events, from).batches.get("bat_1")?.counts;

  test("counts each of them", () => {
    expect(countsOf([created, ...queued])).toMatchObject({ total: 10, queued: 10 });
    expect(countsOf(all)).toMatchObject({ total: 10, queued: 0, completed: 10 });
    expect(fold(all).batches.get("bat_1")).toMatchObject({ effort: 30, effort_done: 30 });
    expect(new Set([...fold(all).files.values()].map((file) => file.status))).toEqual(new Set(["completed"]));
  });

  test("counts each once where the connection was lost in the middle and all of them come again", () => {
    for (const cut of numbers) {
      const torn = [created, ...queued.slice(0, cut), ...queued, ...done.slice(0, cut), ...done];
      expect(fold(torn)).toEqual(fold(all));
    }
  });

  test("is no news to a batch that was read at it", () => {
    const { batches, files } = fold([created, ...queued]);
    const read = [...batches.values()].map(({ part: _part, ...body }) => body as Batch);
    expect(countsOf(queued, { batches: read, files: [...files.values()] })).toMatchObject({ total: 10, queued: 10 });
  });
});
