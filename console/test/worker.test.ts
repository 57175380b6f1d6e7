// The worker that holds the connection: what a lost one left half is told once, and as a whole.

import { expect, test, vi } from "vitest";
import type { FromWorker, ToWorker } from "../src/live/protocol.ts";
import type { Event } from "../src/live/types.ts";

const SNAPSHOT = 'id: 4\nevent: snapshot\ndata: {"seq":4,"batches":[]}\n\n';
const GROUP = [...Array(10).keys()].map((part) => {
  const data = { id: `evt_5.${part}`, seq: 5, part, type: "tanda.FileQueued.v1", batchid: "bat_1", fileid: `fil_${part}`, data: {} };
  return `${part === 9 ? "id: 5\n" : ""}event: FileQueued\ndata: ${JSON.stringify(data)}\n\n`;
});
const NEXT = 'id: 6\nevent: BatchSealed\ndata: {"id":"evt_6","seq":6,"type":"tanda.BatchSealed.v1","batchid":"bat_1","data":{}}\n\n';

test("a connection lost within a position resumes before it, and its events are told once", async () => {
  const asked: (string | null)[] = [];
  const streams = [SNAPSHOT + GROUP.slice(0, 5).join(""), GROUP.join("") + NEXT];
  const heard: Event[] = [];
  let resolve = () => {};
  const sealed = new Promise<void>((done) => (resolve = done));
  const scope = {
    onmessage: null as ((message: { data: ToWorker }) => void) | null,
    postMessage(message: FromWorker) {
      if (message.type === "events") heard.push(...message.events);
      if (heard.some((event) => event.seq === 6)) resolve();
    },
  };
  vi.stubGlobal("self", scope);
  vi.stubGlobal("navigator", { onLine: true });
  vi.stubGlobal("BroadcastChannel", undefined);
  vi.stubGlobal("fetch", (_url: string, { headers }: { headers: Record<string, string> }) => {
    asked.push(headers["Last-Event-ID"] ?? null);
    const text = streams.shift();
    // After the last one the server just has nothing more to say.
    return text ? Promise.resolve(new Response(text)) : new Promise(() => {});
  });
  await import("../src/live/live.worker.ts");
  scope.onmessage?.({ data: { type: "start", key: null, room: "test" } });
  await sealed;
  expect(asked.slice(0, 2)).toEqual([null, "4"]);
  expect(heard.map((event) => [event.seq, event.part])).toEqual([...[...Array(10).keys()].map((part) => [5, part]), [6, undefined]]);
});
