// What a batch's counts mean to someone who waits; the same rules as the server's.

import type { Batch, BatchStatus, Counts, Progress } from "./types.ts";

// Until this many files are settled, a rate is chance and no estimate is given.
const ETA_DONE_MIN = 2;

export const ACTIVE: ReadonlySet<BatchStatus> = new Set(["open", "queued", "processing", "paused"]);

export function settled(counts: Counts): number {
  return counts.completed + counts.failed + counts.rejected + counts.cancelled;
}

// Files without a result: what a person may want to look at.
export function errors(counts: Counts): number {
  return counts.failed + counts.rejected;
}

export function statusOf(batch: Batch): BatchStatus {
  if (batch.cancelled_at) return "cancelled";
  if (batch.completed_at) {
    if (batch.counts.completed === batch.counts.total) return "completed";
    return batch.counts.completed ? "completed_with_errors" : "failed";
  }
  if (batch.paused_at) return "paused";
  if (!batch.sealed_at) return "open";
  return batch.started_at || batch.retried_at ? "processing" : "queued";
}

// One decimal; 100.0 is kept for all of them, and nothing of nothing is 0.
export function percent(part: number, whole: number): number {
  if (part >= whole) return whole ? 100 : 0;
  return Math.min(Math.round((1000 * part) / whole) / 10, 99.9);
}

export function progressOf(batch: Batch, nowMs: number): Progress {
  const reason = waitingReason(batch, nowMs);
  return {
    settled_pct: percent(settled(batch.counts), batch.counts.total),
    succeeded_pct: percent(batch.counts.completed, batch.counts.total),
    eta_s: reason ? null : etaS(batch, nowMs),
    waiting_reason: reason,
  };
}

function etaS(batch: Batch, nowMs: number): number | null {
  const began = batch.retried_at ?? batch.started_at;
  const remaining = batch.counts.total - settled(batch.counts);
  if (!began || remaining === 0 || batch.completed_at || batch.cancelled_at) return null;
  const retried = batch.retried_at && remaining <= (batch.retried ?? 0) ? batch.retried ?? 0 : null;
  const done = retried === null ? settled(batch.counts) - batch.counts.rejected : retried - remaining;
  const elapsedS = (nowMs - Date.parse(began)) / 1000;
  if (done < ETA_DONE_MIN || elapsedS <= 0) return null;
  // By effort where that tells, by files elsewhere and since a retry.
  const { effort = 0, effort_done: part = 0 } = batch;
  const byEffort = !batch.retried_at && part > 0 && part < effort;
  return Math.round((10 * elapsedS * (byEffort ? effort - part : remaining)) / (byEffort ? part : done)) / 10;
}

function waitingReason(batch: Batch, nowMs: number): string | null {
  const { counts } = batch;
  if (batch.completed_at || batch.cancelled_at) return null;
  if (counts.total > 0 && settled(counts) === counts.total) return null;
  if (batch.paused_at) return "paused";
  if (batch.start_at && Date.parse(batch.start_at) > nowMs) return "scheduled";
  return null;
}
