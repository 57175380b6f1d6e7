// What a tab's page, its worker and the other tabs' workers say to each other.

import type { Batch, Event } from "./types.ts";

export type Link = "connecting" | "live" | "reconnecting" | "offline";

// Events that follow ``after`` without a gap, up to ``seq``; of several at one position all or none.
export interface Chunk {
  type: "events";
  after: number;
  seq: number;
  events: Event[];
}

export type FromWorker =
  | Chunk
  | { type: "snapshot"; seq: number; batches: Batch[] }
  | { type: "link"; link: Link; seq: number; leads: boolean }
  // What is shown may have missed something: load it again.
  | { type: "reset"; seq: number }
  | { type: "unauthenticated" };

export type ToWorker =
  // ``room`` names the tabs that share a connection; of one batch from a position, else of the tenant from now.
  | { type: "start"; key: string | null; room: string; batch?: string; seq?: number }
  // The browser's network came or went: what is connected may be dead and not know it.
  | { type: "network" };

export type BetweenTabs =
  | Chunk
  | { type: "snapshot"; seq: number; batches: Batch[] }
  | { type: "link"; link: Link; seq: number }
  | { type: "reset"; seq: number }
  | { type: "unauthenticated" }
  | { type: "hello" };
