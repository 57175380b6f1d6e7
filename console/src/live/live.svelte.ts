// What the page knows: rows folded from events, told to the screens once per animation frame.

import { read } from "../api/http.ts";
import { keep, kept } from "../api/keep.ts";
import { keyOf, onKey } from "../api/key.ts";
import type { FromWorker, Link, ToWorker } from "./protocol.ts";
import { ACTIVE } from "./progress.ts";
import { archivedBy, foldArchived, foldBatch, foldFile } from "./store.ts";
import type { Batch, Event, File, Page } from "./types.ts";

const BATCHES_MAX = 2_000;
const HIDDEN_FLUSH_MS = 500;
const KEEP_MS = 1_000;
const POSITION_WAIT_MS = 1_000;
const UNDER_WAY = "/v1/batches?status=active&limit=200";

class Live {
  link = $state.raw<Link>("connecting");
  // Whether this tab holds the connection for the others.
  leads = $state.raw(false);
  // How often the connection came back.
  returns = $state.raw(0);
  // When the data was last known to be current, in epoch milliseconds.
  asOf = $state.raw(0);
  // One more for every frame in which a row changed.
  tick = $state.raw(0);
  // One more whenever something may have been missed: screens load again.
  epoch = $state.raw(0);
  seq = 0;
  readonly batches = new Map<string, Batch>();
  // Only of the batches that a screen looks at.
  readonly files = new Map<string, Map<string, File>>();
  private readonly listeners = new Set<(events: Event[]) => void>();
  private queue: Event[] = [];
  private scheduled = false;
  private loading = 0;
  private readonly early = new Set<Event>();
  private keepTimer: ReturnType<typeof setTimeout> | undefined;
  // Something was read before the position was known, and may be older than the first event.
  private blind = false;
  // What is under way has been told by the server.
  private current = false;
  private positioned: (() => void) | undefined;
  private readonly position = new Promise<void>((resolve) => (this.positioned = resolve));

  async start(): Promise<void> {
    this.connect();
    const last = await kept<{ at: number; batches: Batch[] }>("state");
    if (!last || this.current) return;
    for (const batch of last.body.batches) if (!this.batches.has(batch.id)) this.batches.set(batch.id, batch);
    this.asOf ||= last.at;
    this.changed();
  }

  // The batch of another tenant, which the operator may look at: its events do not come with ours.
  follow(batch: string, seq: number): () => void {
    const worker = newWorker();
    worker.onmessage = ({ data }: MessageEvent<FromWorker>) => {
      if (data.type === "events") this.hearEvents(data.seq, data.events);
      else if (data.type !== "link") this.epoch += 1;
    };
    worker.postMessage({ type: "start", key: keyOf(), room: batch, batch, seq } satisfies ToWorker);
    return () => worker.terminate();
  }

  private connect(): void {
    const worker = newWorker();
    worker.onmessage = ({ data }: MessageEvent<FromWorker>) => this.hear(data);
    const say = () => {
      const key = keyOf();
      worker.postMessage({ type: "start", key, room: `tanda-live${key ? `-${digest(key)}` : ""}` } satisfies ToWorker);
    };
    say();
    onKey(say);
    for (const change of ["online", "offline"]) addEventListener(change, () => worker.postMessage({ type: "network" }));
  }

  // The position that every read has to have reached, so that events after it complete what was read.
  async reached(): Promise<number> {
    const late = new Promise<void>((resolve) => setTimeout(resolve, POSITION_WAIT_MS));
    await Promise.race([this.position, late]);
    this.blind ||= this.seq === 0;
    return this.seq;
  }

  anyActive(): boolean {
    for (const batch of this.batches.values()) if (ACTIVE.has(batch.status)) return true;
    return false;
  }

  listen(listener: (events: Event[]) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  private hear(message: FromWorker): void {
    if (message.type === "link") this.hearLink(message.link, message.seq, message.leads);
    else if (message.type === "unauthenticated") onNoKey.ask();
    else if (message.type === "events") this.hearEvents(message.seq, message.events);
    else {
      this.seq = message.seq;
      if (message.type === "reset") this.epoch += 1;
      else this.hearSnapshot(message.batches);
      this.positioned?.();
    }
  }

  private hearLink(link: Link, seq: number, leads: boolean): void {
    if (link === "live" && this.link === "offline") this.epoch += 1;
    if (link === "live" && (this.link === "reconnecting" || this.link === "offline")) this.returns += 1;
    Object.assign(this, { link, leads });
    if (!seq) return;
    const isFirst = !this.seq;
    if (isFirst && this.blind) this.epoch += 1;
    this.seq ||= seq;
    this.positioned?.();
    // The tab with the connection was told what is under way before this one was there.
    if (isFirst && !leads) void this.load((min) => read<Page<Batch>>(UNDER_WAY, min), ({ body }) => this.hearSnapshot(body.data)).catch(() => undefined);
  }

  private hearSnapshot(batches: Batch[]): void {
    this.current = true;
    const active = new Set(batches.map((batch) => batch.id));
    // What was kept from the last visit as active and is so no more is loaded by whoever shows it.
    for (const [id, batch] of this.batches) if (ACTIVE.has(batch.status) && !active.has(id)) this.batches.delete(id);
    this.set(batches);
    if (this.blind) this.epoch += 1;
    this.blind = false;
  }

  private hearEvents(seq: number, events: Event[]): void {
    this.seq = Math.max(this.seq, seq);
    this.queue.push(...events);
    if (this.scheduled) return;
    this.scheduled = true;
    // A hidden page has no frames, and still has its title to keep true.
    if (document.hidden) setTimeout(() => this.flush(), HIDDEN_FLUSH_MS);
    else requestAnimationFrame(() => this.flush());
  }

  private flush(): void {
    this.scheduled = false;
    const events = this.queue;
    this.queue = [];
    for (const event of events) this.fold(event);
    for (const listener of this.listeners) listener(events);
    this.changed();
  }

  private fold(event: Event): void {
    const batch = foldBatch(this.batches.get(event.batchid), event);
    if (batch) this.batches.set(batch.id, batch);
    const files = this.files.get(event.batchid);
    const whole = batch !== undefined && (!files || this.foldInto(files, event));
    if (!whole && this.loading) this.early.add(event);
  }

  // Whether every row that the event tells of is there.
  private foldInto(files: Map<string, File>, event: Event): boolean {
    let whole = true;
    for (const id of archivedBy(event)) {
      const file = files.get(id);
      if (file) files.set(id, foldArchived(file, event));
      else whole = false;
    }
    if (!event.fileid) return whole;
    const file = foldFile(files.get(event.fileid), event);
    if (file) files.set(file.id, file);
    return file !== undefined;
  }

  // -- what was read: older than the events after ``seq`` of each row, never newer than those to come

  // Reads while events of rows that are not there yet are kept for them.
  async load<T>(read: (minSeq: number) => Promise<T>, put: (answer: T) => void): Promise<T> {
    const minSeq = await this.reached();
    this.loading += 1;
    try {
      const answer = await read(minSeq);
      // What nobody answered is as old as when it was last read.
      this.asOf ||= (answer as { keptAt?: number | null }).keptAt ?? 0;
      put(answer);
      const early = [...this.early];
      this.early.clear();
      for (const event of early) this.fold(event);
      this.changed();
      return answer;
    } finally {
      this.loading -= 1;
      if (!this.loading) this.early.clear();
    }
  }

  set(batches: Batch[]): void {
    for (const batch of batches) {
      const known = this.batches.get(batch.id);
      if (known && known.seq > batch.seq) continue;
      this.batches.set(batch.id, known ? { ...batch, retried_at: known.retried_at, retried: known.retried } : batch);
    }
    this.prune();
    this.changed();
  }

  setFiles(batchId: string, files: File[]): void {
    const rows = this.files.get(batchId) ?? new Map<string, File>();
    for (const file of files) {
      const known = rows.get(file.id);
      if (!known || known.seq <= file.seq) rows.set(file.id, file);
    }
    this.files.set(batchId, rows);
    this.changed();
  }

  private prune(): void {
    let over = this.batches.size - BATCHES_MAX;
    for (const [id, batch] of this.batches) {
      if (over <= 0) return;
      if (ACTIVE.has(batch.status)) continue;
      this.batches.delete(id);
      over -= 1;
    }
  }

  private changed(): void {
    this.tick += 1;
    if (this.link === "live") this.asOf = Date.now();
    this.keepTimer ??= setTimeout(() => {
      this.keepTimer = undefined;
      const newest = [...this.batches.values()].sort((a, b) => (a.id < b.id ? 1 : -1)).slice(0, 200);
      if (this.link === "live") void keep("state", { at: Date.now(), batches: newest.map((one) => ({ ...one })) });
    }, KEEP_MS);
  }
}

// Asks for a key; the shell sets it, so that this file knows no screens.
export const onNoKey = { ask: () => {} };

const newWorker = () => new Worker(new URL("./live.worker.ts", import.meta.url), { type: "module", name: "live" });

// Names the tabs of one key; no secret, and no more than a name.
function digest(text: string): string {
  let sum = 0x811c9dc5;
  for (const sign of text) sum = Math.imul(sum ^ (sign.codePointAt(0) ?? 0), 0x01000193);
  return (sum >>> 0).toString(36);
}

export const live = new Live();
