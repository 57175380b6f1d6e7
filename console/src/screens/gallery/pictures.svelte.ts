// The images of recent batches, or of one: read once, then joined by each new one as it is done.

import { read } from "../../api/http.ts";
import { live } from "../../live/live.svelte.ts";
import { kindOf } from "../../live/store.ts";
import type { Artifact, Batch, Event, File, Page } from "../../live/types.ts";

export interface Picture {
  file: File;
  thumbnail: Artifact;
}

const BATCHES = 12;
const PAGE = 200;
// Files read of each batch while several are shown; all of them where it is only one.
const FILES_MAX = 200;

export function pictureOf(file: File): Picture | null {
  const thumbnail = file.artifacts.find((one) => one.content_type.startsWith("image/"));
  return thumbnail ? { file, thumbnail } : null;
}

export class Pictures {
  // Newest batch first; only those that have images.
  batches = $state.raw<{ batch: Batch; pictures: Picture[] }[]>([]);
  loaded = $state.raw(false);
  hasMore = $state.raw(false);
  error = $state.raw<unknown>(null);
  private cursor: string | null = "";
  private readonly rows = new Map<string, { batch: Batch; files: Map<string, Picture> }>();
  private readonly queue: Event[] = [];
  private reading = false;

  constructor(private readonly only: string | null) {}

  async load(more = false): Promise<void> {
    if (!more) this.cursor = "";
    try {
      for (const batch of await this.page()) await this.files(batch);
      Object.assign(this, { loaded: true, error: null });
    } catch (error) {
      this.error = error;
    }
  }

  private async page(): Promise<Batch[]> {
    if (this.only) return [(await live.load((seq) => read<Batch>(`/v1/batches/${this.only}`, seq), ({ body }) => live.set([body]))).body];
    const path = `/v1/batches?limit=${BATCHES}${this.cursor && `&cursor=${this.cursor}`}`;
    const { body } = await live.load((seq) => read<Page<Batch>>(path, seq), (answer) => live.set(answer.body.data));
    Object.assign(this, { cursor: body.next_cursor, hasMore: body.has_more });
    return body.data;
  }

  private async files(batch: Batch): Promise<void> {
    const row = this.rows.get(batch.id) ?? { batch, files: new Map<string, Picture>() };
    this.rows.set(batch.id, row);
    let seen = 0;
    for (let cursor: string | null = ""; cursor !== null; ) {
      const path: string = `/v1/batches/${batch.id}/files?status=completed&limit=${PAGE}${cursor && `&cursor=${cursor}`}`;
      const { body } = await read<Page<File>>(path);
      for (const file of body.data) this.put(row, file);
      seen += body.data.length;
      this.show();
      cursor = body.has_more && (this.only || seen < FILES_MAX) ? body.next_cursor : null;
    }
  }

  private put(row: { files: Map<string, Picture> }, file: File): void {
    const picture = pictureOf(file);
    if (picture) row.files.set(file.id, picture);
  }

  private show(): void {
    const rows = [...this.rows.values()].filter((row) => row.files.size);
    rows.sort((one, other) => (one.batch.id < other.batch.id ? 1 : -1));
    this.batches = rows.map(({ batch, files }) => ({ batch, pictures: [...files.values()].sort((a, b) => a.file.index - b.file.index) }));
  }

  // An event tells of an image but not its file's name: the file is read, one after the other.
  hear(events: Event[]): void {
    for (const event of events) {
      const artifacts = (event.data.artifacts ?? []) as Artifact[];
      const isImage = kindOf(event) === "FileCompleted" && artifacts.some((one) => one.content_type.startsWith("image/"));
      if (isImage && (!this.only || this.only === event.batchid)) this.queue.push(event);
    }
    void this.readQueued();
  }

  private async readQueued(): Promise<void> {
    if (this.reading) return;
    this.reading = true;
    for (let event = this.queue.shift(); event; event = this.queue.shift()) {
      const batch = live.batches.get(event.batchid);
      const path = `/v1/batches/${event.batchid}/files/${event.fileid}`;
      const file = await read<File>(path, event.seq).then(({ body }) => body, () => null);
      if (!batch || !file) continue;
      const row = this.rows.get(batch.id) ?? { batch, files: new Map<string, Picture>() };
      this.rows.set(batch.id, row);
      this.put(row, file);
      this.show();
      this.loaded = true;
    }
    this.reading = false;
  }
}
