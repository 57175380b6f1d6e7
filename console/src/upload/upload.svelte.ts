// One batch on its way: checked, sent file by file, sealed. It lives as long as the page, whatever screen is shown.

import { ApiError, Away, post } from "../api/http.ts";
import { refusalText } from "../api/refusal.ts";
import { uploadsKept } from "../api/keep.ts";
import type { Batch } from "../live/types.ts";
import { live } from "../live/live.svelte.ts";
import { nextRow, type Item, type Record, type Row } from "./item.ts";
import { put, putMany } from "./send.ts";

export type Stage = "checking" | "review" | "sending" | "sealing" | "safe" | "stuck" | "missing" | "dropped";
// Browsers open six connections to a server; the live one and reads need theirs.
const AT_ONCE = 4;
const RETRY_MS = [300, 800, 1_500, 3_000, 5_000];

export interface Wishes {
  name: string;
  priority: string;
}

export class Upload {
  readonly id = crypto.getRandomValues(new Uint32Array(1))[0] ?? 0;
  stage = $state.raw<Stage>("checking");
  batchId = $state.raw("");
  name = $state.raw("");
  // Why nothing goes on for the moment: nobody answers.
  away = $state.raw(false);
  error = $state.raw("");
  // One more whenever items changed; items themselves are plain, for there may be ten thousand.
  tick = $state.raw(0);
  startedAt = 0;
  items: Item[] = [];
  private scheduled = false;
  // The requests under way, by their files.
  private readonly aborts = new Map<Item[], AbortController>();

  constructor(private readonly wishes: Wishes) {
    this.name = wishes.name;
  }

  changed(): void {
    if (this.scheduled) return;
    this.scheduled = true;
    setTimeout(() => {
      this.scheduled = false;
      this.tick += 1;
    }, this.items.length > 500 ? 400 : 60);
  }

  get wanted(): Item[] {
    return this.items.filter((item) => item.state !== "left_out");
  }

  // Opens the batch and sends what is wanted.
  async send(): Promise<void> {
    if (!this.wanted.length) return;
    this.stage = "sending";
    this.startedAt = performance.now();
    try {
      await this.open();
      await this.sendAll();
    } catch (error) {
      this.stage = "stuck";
      this.error = refusalText(error);
    }
  }

  private async open(): Promise<void> {
    if (this.batchId) return;
    const body = { open: true, name: this.name || undefined, priority: this.wishes.priority || undefined };
    const batch = await this.patiently(() => post<Batch>("/v1/batches", body));
    this.batchId = batch.id;
    this.name = batch.name;
    live.set([batch]);
    await this.remember();
  }

  private async remember(): Promise<void> {
    const files = this.wanted.map(({ index, name, size, sha256 }) => ({ index, name, size, sha256: sha256 ?? "" }));
    await uploadsKept.put({ batchId: this.batchId, name: this.name, at: Date.now(), files } satisfies Record);
  }

  // Sends all that is ready, a few at once, and seals the batch when nothing is left over.
  async sendAll(): Promise<void> {
    this.stage = "sending";
    void hold(this.batchId, async () => {
      const next = async (): Promise<void> => {
        for (let row = nextRow(this.items); row; row = nextRow(this.items)) await this.sendRow(row);
      };
      await Promise.all(Array.from({ length: AT_ONCE }, next));
      await this.settle();
    });
  }

  private async settle(): Promise<void> {
    const states = new Set(this.items.map((item) => item.state));
    if (states.has("ready") || states.has("sending")) return;
    const failed = this.items.filter((item) => item.state === "failed");
    if (failed.some((item) => item.file)) this.stage = "stuck";
    else if (failed.length) this.stage = "missing";
    else if (this.items.some((item) => item.state === "sent")) await this.seal();
    else await this.drop();
    this.changed();
  }

  // The batch is whole as it is: what was not sent stays out.
  async seal(): Promise<void> {
    this.stage = "sealing";
    try {
      const batch = await this.patiently(() => post<Batch>(`/v1/batches/${this.batchId}/seal`));
      live.set([batch]);
    } catch (error) {
      if (!(error instanceof ApiError && error.code === "batch_state_forbids")) {
        this.stage = "stuck";
        this.error = refusalText(error);
        return;
      }
    }
    this.stage = "safe";
    await uploadsKept.remove(this.batchId);
  }

  // Gives the whole batch up.
  async drop(): Promise<void> {
    for (const item of this.items) this.cancel(item);
    if (this.batchId) {
      await post(`/v1/batches/${this.batchId}/cancel`).catch(() => undefined);
      await uploadsKept.remove(this.batchId);
    }
    this.stage = "dropped";
  }

  private async sendRow({ items, together }: Row): Promise<void> {
    const abort = new AbortController();
    this.aborts.set(items, abort);
    for (const item of items) item.state = "sending";
    const onProgress = (loaded: number) => {
      let left = loaded;
      for (const item of items) {
        item.loaded = Math.min(item.size, left);
        left -= item.loaded;
      }
      this.changed();
    };
    try {
      const send = together ? putMany : put;
      await this.patiently(() => send(this.batchId, items, onProgress, abort.signal));
      for (const item of items) Object.assign(item, { state: "sent", loaded: item.size });
    } catch (error) {
      const state = abort.signal.aborted ? "cancelled" : "failed";
      const words = abort.signal.aborted ? null : refusalText(error);
      for (const item of items) Object.assign(item, { state, loaded: 0, error: words });
    }
    this.aborts.delete(items);
    this.changed();
  }

  // Whether it can be cancelled by itself: what goes in a row with others cannot.
  isAlone(item: Item): boolean {
    return item.state === "ready" || this.requestOf(item)?.length === 1;
  }

  private requestOf(item: Item): Item[] | undefined {
    return [...this.aborts.keys()].find((items) => items.includes(item));
  }

  cancel(item: Item): void {
    if (item.state === "ready") item.state = "cancelled";
    const items = this.requestOf(item);
    if (items) this.aborts.get(items)?.abort();
    this.changed();
  }

  async retry(items: Item[]): Promise<void> {
    for (const item of items) Object.assign(item, { state: "ready", error: null });
    this.changed();
    if (this.stage !== "sending") return this.sendAll();
    for (let row = nextRow(this.items, items); row; row = nextRow(this.items, items)) await this.sendRow(row);
    await this.settle();
  }

  // Goes on as soon as somebody answers again, however long that takes.
  private async patiently<T>(act: () => Promise<T>): Promise<T> {
    for (let attempt = 0; ; attempt += 1) {
      try {
        const answer = await act();
        this.away = false;
        return answer;
      } catch (error) {
        const passes = error instanceof Away || (error instanceof ApiError && [408, 429, 500, 502, 503, 504].includes(error.status));
        if (!passes) throw error;
        this.away = true;
        const pause = RETRY_MS[Math.min(attempt, RETRY_MS.length - 1)];
        await new Promise((resolve) => setTimeout(resolve, pause));
      }
    }
  }
}

// Other tabs see by this lock that a batch is being sent and is not one to resume.
const lockOf = (batchId: string) => `tanda-upload-${batchId}`;

async function hold(batchId: string, act: () => Promise<void>): Promise<void> {
  if (!navigator.locks) return act();
  await navigator.locks.request(lockOf(batchId), act);
}

export async function isHeld(batchId: string): Promise<boolean> {
  const held = (await navigator.locks?.query())?.held ?? [];
  return held.some((lock) => lock.name === lockOf(batchId));
}
