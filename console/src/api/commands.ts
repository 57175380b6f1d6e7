// What a user may ask of batches, with the words that say it was done or why not.

import { toasts } from "../app/toasts.svelte.ts";
import { live } from "../live/live.svelte.ts";
import type { Batch, BatchStatus } from "../live/types.ts";
import { t } from "../text/text.svelte.ts";
import { ApiError, post } from "./http.ts";
import { refusalText } from "./refusal.ts";

export type Verb = "pause" | "resume" | "cancel" | "retry";
const UNDO_MS = 6_000;

const STATES: Record<Verb, ReadonlySet<BatchStatus>> = {
  pause: new Set(["queued", "processing"]),
  resume: new Set(["paused"]),
  cancel: new Set(["open", "queued", "processing", "paused"]),
  retry: new Set(["processing", "completed_with_errors", "failed", "cancelled"]),
};

export function allows(batch: Batch, verb: Verb): boolean {
  if (!STATES[verb].has(batch.status)) return false;
  return verb !== "retry" || batch.counts.failed + batch.counts.cancelled > 0;
}

export function complain(error: unknown): void {
  const words = error instanceof ApiError && error.isMissing ? t("trouble_missing")
    : error instanceof ApiError ? refusalText(error) : t("trouble_away");
  toasts.add({ tone: "bad", text: words });
}

async function order(batchId: string, verb: "pause" | "resume" | "cancel"): Promise<void> {
  live.set([await post<Batch>(`/v1/batches/${batchId}/${verb}`)]);
}

export async function pause(batch: Batch): Promise<void> {
  await order(batch.id, "pause").then(() => toasts.add({ tone: "plain", text: t("done_pause") }), complain);
}

export async function resume(batch: Batch): Promise<void> {
  await order(batch.id, "resume").then(() => toasts.add({ tone: "plain", text: t("done_resume") }), complain);
}

// A cancel is final, so it waits for second thoughts; leaving the page is none.
export function cancelSoon(batch: Batch): void {
  const act = () => {
    stop();
    void order(batch.id, "cancel").then(() => toasts.add({ tone: "plain", text: t("done_cancel") }), complain);
  };
  const timer = setTimeout(act, UNDO_MS);
  const stop = () => {
    clearTimeout(timer);
    removeEventListener("pagehide", act);
  };
  addEventListener("pagehide", act);
  const undo = () => {
    stop();
    toasts.add({ tone: "plain", text: t("cancel_undone") });
  };
  toasts.add({ tone: "plain", text: t("cancel_soon", { name: batch.name }), action: { text: t("undo"), run: undo } }, UNDO_MS);
}

// Files by id, or those of a status; how many are tried again.
export async function retry(batchId: string, what: { file_ids?: string[]; status?: string }): Promise<void> {
  try {
    const { retried } = await post<{ retried: number }>(`/v1/batches/${batchId}/retry`, what);
    toasts.add({ tone: "plain", text: t("done_retry", { n: retried }) });
  } catch (error) {
    complain(error);
  }
}

// A batch's failed files, or what was cancelled with it.
export function retryBatch(batch: Batch): Promise<void> {
  return retry(batch.id, { status: batch.counts.failed ? "failed" : "cancelled" });
}

export interface BulkAction {
  id: string | null;
  status: string;
  eligible: number;
  done: number;
  skipped: number;
  failed: number;
}

// The same for many batches; a dry run counts those that it fits.
export function bulk(action: Verb, batches: Batch[], dryRun: boolean): Promise<BulkAction> {
  return post("/v1/bulk-actions", { action, filter: { batch_ids: batches.map((batch) => batch.id) }, dry_run: dryRun });
}
