// How long a batch took, has taken or will take, in words.

import { ACTIVE, progressOf } from "../../live/progress.ts";
import type { Batch } from "../../live/types.ts";
import { t } from "../../text/text.svelte.ts";
import { secondsText } from "../../text/units.ts";

export function durationOf(batch: Batch, now: number): string {
  const from = batch.retried_at ?? batch.started_at ?? batch.sealed_at;
  if (!from) return "—";
  const isActive = ACTIVE.has(batch.status);
  const to = isActive ? now : Date.parse(batch.completed_at ?? batch.cancelled_at ?? from);
  return secondsText(Math.max(0, to - Date.parse(from)) / 1000);
}

export function etaOf(batch: Batch, now: number): string {
  if (!ACTIVE.has(batch.status) || batch.status === "open" || batch.status === "paused") return "";
  const eta = progressOf(batch, now).eta_s;
  return eta === null ? "" : t("eta", { time: secondsText(Math.max(1, Math.round(eta))) });
}
