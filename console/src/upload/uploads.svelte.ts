// All uploads of this page: new ones from what is dropped, and unfinished ones of an earlier visit.

import { read } from "../api/http.ts";
import { uploadsKept } from "../api/keep.ts";
import type { Found } from "../app/drop.svelte.ts";
import { live } from "../live/live.svelte.ts";
import type { Batch, File as Row, Page } from "../live/types.ts";
import { check } from "./check.ts";
import type { Asked, Digested } from "./digest.worker.ts";
import { itemOf, matched, withOwnNames, type Item, type Record } from "./item.ts";
import { isHeld, Upload, type Wishes } from "./upload.svelte.ts";

const CHUNK = 50;

class Uploads {
  list = $state.raw<Upload[]>([]);
  private worker: Worker | undefined;
  private readonly waiting: ((digested: Digested[]) => void)[] = [];
  private resumed: Promise<void> | undefined;

  // Whether closing the page now would lose something.
  get busy(): boolean {
    return this.list.some((one) => one.stage === "sending" || one.stage === "sealing");
  }

  async add(found: Found[], wishes: Wishes): Promise<void> {
    if (!found.length) return;
    const upload = new Upload({ ...wishes, name: wishes.name || nameOf(found) });
    const names = withOwnNames(found.map((one) => one.name));
    upload.items = found.map((one, index) => itemOf(index, names[index] ?? one.name, one.file));
    this.list = [upload, ...this.list];
    await this.digest(upload);
    this.resume(upload);
    if (!upload.items.length) return this.remove(upload);
    if (upload.items.some((item) => item.problem)) upload.stage = "review";
    else await upload.send();
  }

  remove(upload: Upload): void {
    this.list = this.list.filter((one) => one !== upload);
  }

  // Digests and first looks, a chunk at a time so that progress shows and memory stays small.
  private async digest(upload: Upload): Promise<void> {
    const first = new Map<string, string>();
    for (let at = 0; at < upload.items.length; at += CHUNK) {
      const chunk = upload.items.slice(at, at + CHUNK);
      for (const { index, sha256, head } of await this.ask(chunk)) {
        const item = upload.items[index];
        if (!item) continue;
        item.sha256 = sha256;
        item.twin = (sha256 && first.get(sha256)) || null;
        item.problem = sha256 === null ? "unreadable" : check(item.name, item.size, head) ?? (item.twin ? "duplicate" : null);
        item.state = item.problem ? "left_out" : "ready";
        if (sha256 && !item.twin) first.set(sha256, item.name);
      }
      upload.changed();
    }
  }

  private ask(items: Item[]): Promise<Digested[]> {
    this.worker ??= this.start();
    const asked: Asked[] = items.flatMap(({ index, file }) => (file ? [{ index, file }] : []));
    return new Promise((resolve) => {
      this.waiting.push(resolve);
      this.worker?.postMessage(asked);
    });
  }

  private start(): Worker {
    const worker = new Worker(new URL("./digest.worker.ts", import.meta.url), { type: "module", name: "digest" });
    worker.onmessage = ({ data }: MessageEvent<Digested[]>) => this.waiting.shift()?.(data);
    return worker;
  }

  // -- after a reload

  // Files that an unfinished upload misses go to it, and those that it has are not sent again, for one drops the
  // whole folder; what is left is a new batch.
  private resume(upload: Upload): void {
    for (const one of this.list) {
      if (one.stage !== "missing") continue;
      const { found, others } = matched(one.items.filter((item) => item.state === "failed" && !item.file), upload.items);
      if (!found.length) continue;
      const has = new Set(one.items.map((item) => item.sha256));
      upload.items = others.filter((item) => !has.has(item.sha256)).map((item, index) => ({ ...item, index }));
      for (const [item, dropped] of found) Object.assign(item, { file: dropped.file, state: "ready", error: null });
      one.changed();
      void one.sendAll();
    }
  }

  // Looks once for what an earlier visit left unfinished.
  findUnfinished(): Promise<void> {
    return (this.resumed ??= this.unfinished());
  }

  private async unfinished(): Promise<void> {
    for (const record of await uploadsKept.all<Record>()) {
      if (await isHeld(record.batchId)) continue;
      try {
        const { body: batch, keptAt } = await read<Batch>(`/v1/batches/${record.batchId}`);
        if (keptAt) continue;
        if (batch.status === "open") this.list = [...this.list, await this.restored(record, batch)];
        else await uploadsKept.remove(record.batchId);
      } catch {
        // Nobody answers, or the batch is gone: the record stays for the next visit.
      }
    }
  }

  private async restored(record: Record, batch: Batch): Promise<Upload> {
    live.set([batch]);
    const there = await placesIn(record.batchId);
    const upload = new Upload({ name: record.name, priority: "" });
    upload.batchId = record.batchId;
    upload.items = record.files.map((one) => ({
      ...one, file: null, problem: null, twin: null, error: null, loaded: there.has(one.index) ? one.size : 0,
      state: there.has(one.index) ? "sent" : "failed",
    }));
    upload.stage = "missing";
    if (upload.items.every((item) => item.state === "sent")) void upload.seal();
    return upload;
  }
}

// By place, for a name is kept without its folders and may be there twice.
async function placesIn(batchId: string): Promise<Set<number>> {
  const places = new Set<number>();
  for (let cursor: string | null = ""; cursor !== null; ) {
    const { body }: { body: Page<Row> } = await read(`/v1/batches/${batchId}/files?limit=200${cursor && `&cursor=${cursor}`}`);
    for (const file of body.data) places.add(file.index);
    cursor = body.has_more ? body.next_cursor : null;
  }
  return places;
}

// One file names its batch, and so does one folder.
function nameOf(found: Found[]): string {
  const [first] = found;
  if (!first) return "";
  if (found.length === 1) return first.name;
  const folder = first.name.split("/")[0] ?? "";
  return first.name.includes("/") && found.every((one) => one.name.startsWith(`${folder}/`)) ? folder : "";
}

export const uploads = new Uploads();

addEventListener("beforeunload", (event) => {
  if (uploads.busy) event.preventDefault();
});
