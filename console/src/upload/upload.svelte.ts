// One batch on its way: checked, sent file by file, sealed. It lives as long as the page, whatever screen is shown.

import { ApiError, Away, newKey, post } from "../api/http.ts";
import { uploadsKept } from "../api/keep.ts";
import type { Batch } from "../live/types.ts";
import { live } from "../live/live.svelte.ts";
import type { Item, Record } from "./item.ts";
import { postAll, put } from "./send.ts";

export type Stage = "checking" | "review" | "sending" | "sealing" | "safe" | "stuck" | "missing" | "dropped";
// Browsers open six connections to a server; the live one and reads need theirs.
const AT_ONCE = 4;
// So many small files are one request of some seconds: there is nothing worth resuming, and one by one they would
// take minutes.
const TOGETHER_FILES_MIN = 1_000;
const TOGETHER_BYTES_MAX = 64 * 1024 ** 2;
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
  private together: AbortController | undefined;
  private readonly aborts = new Map<Item, AbortController>();

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
    const bytes = this.wanted.reduce((sum, item) => sum + item.size, 0);
    try {
      if (this.wanted.length >= TOGETHER_FILES_MIN && bytes <= TOGETHER_BYTES_MAX) return await this.sendTogether(bytes);
      await this.open();
      await this.sendAll();
    } catch (error) {
      this.stage = "stuck";
      this.error = error instanceof Error ? error.message : String(error);
    }
  }

  private async sendTogether(bytes: number): Promise<void> {
    const items = this.wanted;
    const key = newKey();
    const abort = new AbortController();
    this.together = abort;
    const fields = { name: this.name, priority: this.wishes.priority };
    // The form's own lines are on their way too: what is shown is the share of the whole, file after file.
    const onProgress = (loaded: number) => {
      let left = Math.min(loaded, bytes);
      for (const item of items) {
        item.loaded = Math.min(item.size, left);
        left -= item.loaded;
      }
      this.changed();
    };
    try {
      const batch = await this.patiently(() => postAll(fields, items, key, onProgress, abort.signal));
      for (const item of items) Object.assign(item, { state: "sent", loaded: item.size });
      Object.assign(this, { batchId: batch.id, name: batch.name, stage: "safe" });
      live.set([batch]);
    } catch (error) {
      if (!abort.signal.aborted) throw error;
      this.stage = "dropped";
    }
    this.changed();
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
      const queue = this.items.filter((item) => item.state === "ready");
      const next = async (): Promise<void> => {
        for (let item = queue.shift(); item; item = queue.shift()) if (item.state === "ready") await this.sendOne(item);
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
        this.error = error instanceof Error ? error.message : String(error);
        return;
      }
    }
    this.stage = "safe";
    await uploadsKept.remove(this.batchId);
  }

  // Gives the whole batch up.
  async drop(): Promise<void> {
    this.together?.abort();
    for (const item of this.items) this.cancel(item);
    if (this.batchId) {
      await post(`/v1/batches/${this.batchId}/cancel`).catch(() => undefined);
      await uploadsKept.remove(this.batchId);
    }
    this.stage = "dropped";
  }

  private async sendOne(item: Item): Promise<void> {
    const abort = new AbortController();
    this.aborts.set(item, abort);
    item.state = "sending";
    try {
      await this.patiently(() => put(this.batchId, item, (loaded) => {
        item.loaded = Math.min(loaded, item.size);
        this.changed();
      }, abort.signal));
      Object.assign(item, { state: "sent", loaded: item.size });
    } catch (error) {
      const cancelled = abort.signal.aborted;
      item.loaded = 0;
      item.state = cancelled ? "cancelled" : "failed";
      item.error = cancelled ? null : error instanceof Error ? error.message : String(error);
    }
    this.aborts.delete(item);
    this.changed();
  }

  cancel(item: Item): void {
    if (item.state === "ready") item.state = "cancelled";
    this.aborts.get(item)?.abort();
    this.changed();
  }

  async retry(items: Item[]): Promise<void> {
    for (const item of items) Object.assign(item, { state: "ready", error: null });
    this.changed();
    if (this.stage !== "sending") await this.sendAll();
    else for (const item of items) await this.sendOne(item).then(() => this.settle());
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
