// One live connection for all tabs: the tab that holds the lock has it and tells the others.
// It runs beside the page, so that parsing never costs a frame.

import type { BetweenTabs, FromWorker, Link, ToWorker } from "./protocol.ts";
import { Parser, type Message } from "./sse.ts";
import type { Event } from "./types.ts";

const FLUSH_MS = 50;
const SILENCE_MS_MAX = 40_000; // the server pings every 15 s
const RETRY_MS = [200, 500, 1_000, 2_000, 3_000];
// Failures in a row after which the pill says offline instead of reconnecting.
const OFFLINE_AFTER = 3;

let key: string | null = null;
let batch: string | undefined;
let channel: BroadcastChannel | undefined;
let leads = false;
let link: Link = "connecting";
let seq = 0;
let sent = 0;
let queue: Event[] = [];
// Events of a position whose last one has not come yet.
let begun: Event[] = [];
let timer: ReturnType<typeof setTimeout> | undefined;
let wake: (() => void) | undefined;
let connection: AbortController | undefined;

const toPage = (message: FromWorker) => self.postMessage(message);

function toAll(message: Exclude<BetweenTabs, { type: "hello" }>): void {
  channel?.postMessage(message);
  toPage(message.type === "link" ? { ...message, leads } : message);
}

function setLink(next: Link): void {
  link = next;
  toAll({ type: "link", link, seq });
}

// -- the leader

function flush(): void {
  timer = undefined;
  if (!queue.length) return;
  const chunk = { type: "events" as const, after: sent, seq, events: queue };
  queue = [];
  sent = seq;
  toAll(chunk);
}

// Results may be large and no list shows them; where bytes are in the store is the server's business.
function slim(event: Event): Event {
  const { result: _result, result_ref: _ref, source: _source, options: _options, ...data } = event.data;
  return { ...event, data };
}

function take(message: Message): void {
  if (message.event === "drain") return connection?.abort("drain");
  if (message.event === "snapshot") {
    const snapshot = JSON.parse(message.data);
    flush();
    const isFirst = seq === 0;
    seq = sent = snapshot.seq;
    if (!isFirst) toAll({ type: "reset", seq });
    return toAll({ type: "snapshot", seq, batches: snapshot.batches ?? [] });
  }
  const event: Event = JSON.parse(message.data);
  if (event.seq <= seq) return;
  begun.push(slim(event));
  if (message.id !== String(event.seq)) return;
  seq = event.seq;
  queue.push(...begun.splice(0));
  timer ??= setTimeout(flush, FLUSH_MS);
}

async function connect(): Promise<void> {
  connection = new AbortController();
  const { signal } = connection;
  const headers: Record<string, string> = { Accept: "text/event-stream" };
  if (key) headers.Authorization = `Bearer ${key}`;
  if (seq) headers["Last-Event-ID"] = String(seq);
  const response = await fetch(`/v1/events${batch ? `?batch=${batch}` : ""}`, { headers, signal, cache: "no-store" });
  if (response.status === 401) toAll({ type: "unauthenticated" });
  if (!response.ok || !response.body) throw new Error(`answered ${response.status}`);
  setLink("live");
  // What the last connection left half is told again as a whole.
  begun = [];
  const parser = new Parser(take);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let silence: ReturnType<typeof setTimeout> | undefined;
  try {
    for (;;) {
      silence = setTimeout(() => connection?.abort("silence"), SILENCE_MS_MAX);
      const { done, value } = await reader.read();
      clearTimeout(silence);
      if (done) return;
      parser.feed(value);
    }
  } finally {
    clearTimeout(silence);
  }
}

async function lead(): Promise<never> {
  leads = true;
  sent = seq;
  let failures = 0;
  for (;;) {
    const before = seq;
    try {
      await connect();
      failures = 0;
    } catch (error) {
      failures = error === "drain" || seq > before || link === "live" ? 0 : failures + 1;
    }
    flush();
    setLink(failures >= OFFLINE_AFTER || !navigator.onLine ? "offline" : "reconnecting");
    const pause = RETRY_MS[Math.min(failures, RETRY_MS.length - 1)] ?? 0;
    await new Promise<void>((resolve) => {
      wake = resolve;
      setTimeout(resolve, pause * (0.75 + Math.random() / 2));
    });
  }
}

// -- the others

function hear(message: BetweenTabs): void {
  if (message.type === "hello") {
    if (leads) channel?.postMessage({ type: "link", link, seq: sent });
    return;
  }
  if (leads) return;
  if (message.type === "link") {
    link = message.link;
    seq ||= message.seq;
    return toPage({ ...message, seq, leads });
  }
  if (message.type === "events") {
    if (seq && message.after > seq) toPage({ type: "reset", seq: message.seq });
    seq = Math.max(seq, message.seq);
  } else if (message.type !== "unauthenticated") seq = message.seq;
  toPage(message);
}

function start(room: string): void {
  if (typeof BroadcastChannel !== "undefined") {
    channel = new BroadcastChannel(room);
    channel.onmessage = ({ data }: MessageEvent<BetweenTabs>) => hear(data);
    channel.postMessage({ type: "hello" });
  }
  // Without locks (a page that is not served securely) every tab has a connection of its own.
  if (navigator.locks) void navigator.locks.request(room, lead);
  else void lead();
}

self.onmessage = ({ data }: MessageEvent<ToWorker>) => {
  if (data.type === "network") {
    connection?.abort("network");
    return wake?.();
  }
  key = data.key;
  batch = data.batch;
  seq ||= data.seq ?? 0;
  if (channel || leads) wake?.();
  else start(data.room);
};
