// The files of one batch: read page by page, kept true by events, and put in order a few times a second only,
// since ten thousand rows in every frame would be most of the frame.

import { read } from "../../api/http.ts";
import { live } from "../../live/live.svelte.ts";
import type { File, Page, Status } from "../../live/types.ts";

const PAGE = 200;
// A second where there are thousands: each round looks at every file.
const ORDER_MS = 250;
const ORDER_MANY_MS = 1_000;
const MANY = 2_000;

export class Files {
  // In upload order.
  all = $state.raw<File[]>([]);
  loaded = $state.raw(false);
  error = $state.raw<unknown>(null);
  keptAt = $state.raw<number | null>(null);
  private timer: ReturnType<typeof setTimeout> | undefined;
  private stopped = false;
  private turn = 0;

  constructor(readonly batchId: string) {
    $effect(() => {
      void live.tick;
      this.timer ??= setTimeout(() => this.order(), !this.all.length ? 0 : this.all.length > MANY ? ORDER_MANY_MS : ORDER_MS);
    });
    $effect(() => {
      void live.epoch;
      void this.load();
    });
    $effect(() => () => {
      this.stopped = true;
      clearTimeout(this.timer);
      live.files.delete(batchId);
    });
  }

  private order(): void {
    this.timer = undefined;
    const rows = [...(live.files.get(this.batchId)?.values() ?? [])];
    this.all = rows.sort((one, other) => one.index - other.index);
  }

  async load(): Promise<void> {
    const turn = ++this.turn;
    live.files.set(this.batchId, live.files.get(this.batchId) ?? new Map<string, File>());
    try {
      for (let cursor: string | null = ""; cursor !== null && !this.stopped && turn === this.turn; ) {
        const path: string = `/v1/batches/${this.batchId}/files?limit=${PAGE}${cursor && `&cursor=${cursor}`}`;
        const { body, keptAt } = await live.load((seq) => read<Page<File>>(path, seq), ({ body: page }) => {
          if (!this.stopped) live.setFiles(this.batchId, page.data);
        });
        this.keptAt = keptAt;
        cursor = body.has_more ? body.next_cursor : null;
      }
      if (turn === this.turn) Object.assign(this, { loaded: true, error: null });
    } catch (error) {
      this.error = error;
    }
  }
}

// A retrying file counts as queued, as it does in the batch's counts.
export function inChip(status: Status, chip: string): boolean {
  return !chip || status === chip || (chip === "queued" && status === "retrying");
}
