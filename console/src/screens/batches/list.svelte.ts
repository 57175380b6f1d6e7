// The list of batches: pages that were read, and what has come since, kept apart so that no row jumps.

import { read, query } from "../../api/http.ts";
import { kindOf } from "../../live/store.ts";
import { live } from "../../live/live.svelte.ts";
import { ACTIVE } from "../../live/progress.ts";
import type { Batch, Event, Page } from "../../live/types.ts";

export interface Filter {
  status: string;
  q: string;
  tag: string;
  since: string;
}

const LIMIT = 50;
const SINCE_HOURS: Record<string, number> = { day: 24, week: 168, month: 720 };

export class List {
  ids = $state.raw<string[]>([]);
  // Created since, and not shown yet.
  fresh = $state.raw<string[]>([]);
  loaded = $state.raw(false);
  hasMore = $state.raw(false);
  error = $state.raw<unknown>(null);
  keptAt = $state.raw<number | null>(null);
  private cursor: string | null = null;
  private turn = 0;

  constructor(private readonly filter: Filter) {}

  private path(cursor: string | null): string {
    const { status, q, tag, since } = this.filter;
    const hours = SINCE_HOURS[since];
    const after = hours ? new Date(Date.now() - hours * 3_600_000).toISOString() : null;
    return `/v1/batches${query({ limit: LIMIT, status, q, tag, created_after: after, cursor })}`;
  }

  async load(more = false): Promise<void> {
    const turn = ++this.turn;
    try {
      await live.load((seq) => read<Page<Batch>>(this.path(more ? this.cursor : null), seq), ({ body, keptAt }) => {
        if (turn !== this.turn) return;
        live.set(body.data);
        const ids = body.data.map((batch) => batch.id);
        this.ids = more ? [...new Set([...this.ids, ...ids])] : ids;
        if (!more) this.fresh = [];
        Object.assign(this, { cursor: body.next_cursor, hasMore: body.has_more, keptAt, error: null, loaded: true });
      });
    } catch (error) {
      if (turn === this.turn) Object.assign(this, { error, loaded: true });
    }
  }

  hear(events: Event[]): void {
    const created = events.filter((event) => kindOf(event) === "BatchCreated").map((event) => event.batchid);
    const news = created.filter((id) => !this.ids.includes(id) && this.fits(live.batches.get(id)));
    if (!news.length) return;
    // An empty list has no row that could jump.
    if (!this.ids.length && this.loaded) this.ids = news.reverse();
    else this.fresh = [...new Set([...news.reverse(), ...this.fresh])];
  }

  showFresh(): void {
    this.ids = [...this.fresh, ...this.ids];
    this.fresh = [];
  }

  private fits(batch: Batch | undefined): boolean {
    if (!batch) return false;
    const { status, q, tag } = this.filter;
    if (status && status !== batch.status && !(status === "active" && ACTIVE.has(batch.status))) return false;
    return (!q || batch.name.toLowerCase().includes(q.toLowerCase())) && (!tag || batch.tags.includes(tag));
  }
}
