// What is under way, for the dock, the title and the icon; and a word when a batch is done.

import { kindOf } from "../live/store.ts";
import { live } from "../live/live.svelte.ts";
import { ACTIVE, settled } from "../live/progress.ts";
import type { Batch, Event } from "../live/types.ts";
import { t } from "../text/text.svelte.ts";
import { batchHash, router } from "./router.svelte.ts";
import { toasts } from "./toasts.svelte.ts";

export function activeBatches(): Batch[] {
  const active = [...live.batches.values()].filter((batch) => ACTIVE.has(batch.status));
  return active.sort((one, other) => (one.id < other.id ? 1 : -1));
}

// Percent of all files under way that are settled; null where nothing is.
export function activePercent(batches: Batch[]): number | null {
  const total = batches.reduce((sum, batch) => sum + batch.counts.total, 0);
  if (!total) return null;
  return Math.floor((100 * batches.reduce((sum, batch) => sum + settled(batch.counts), 0)) / total);
}

export function announce(events: Event[]): void {
  for (const event of events) {
    if (kindOf(event) !== "BatchCompleted") continue;
    const batch = live.batches.get(event.batchid);
    // Who looks at it sees it there.
    if (!batch || (router.place.name === "batch" && router.place.batchId === batch.id)) continue;
    const { completed, total } = batch.counts;
    const words = t("toast_done", { name: batch.name, completed, total });
    toasts.add({ tone: completed === total ? "good" : "bad", text: words, href: batchHash(batch.id) });
  }
}

const SIZE = 32;
let icon: HTMLLinkElement | null = null;
let plain = "";

// The tab's title and icon show how far it is.
export function showInTab(percent: number | null): void {
  document.title = percent === null ? "Tanda" : `${percent} % · Tanda`;
  icon ??= document.querySelector<HTMLLinkElement>("link[rel=icon]");
  if (!icon) return;
  plain ||= icon.href;
  icon.href = percent === null ? plain : drawn(percent) ?? plain;
}

function drawn(percent: number): string | null {
  const canvas = Object.assign(document.createElement("canvas"), { width: SIZE, height: SIZE });
  const pen = canvas.getContext("2d");
  if (!pen) return null;
  pen.lineWidth = 6;
  for (const [colour, share] of [["#9fb4ae", 1], ["#0b8a7e", percent / 100]] as const) {
    pen.strokeStyle = colour;
    pen.beginPath();
    pen.arc(SIZE / 2, SIZE / 2, SIZE / 2 - 4, -Math.PI / 2, -Math.PI / 2 + 2 * Math.PI * share);
    pen.stroke();
  }
  return canvas.toDataURL();
}
