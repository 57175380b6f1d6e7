// Files dropped or pasted anywhere on the window go to the home screen, which checks and sends them.

import { go } from "./router.svelte.ts";

export interface Found {
  // With its folders, as the user sees it: ``noviembre/a.xml``.
  name: string;
  file: File;
}

class Dropping {
  // Files are over the window now.
  over = $state.raw(false);
  // What was dropped before the home screen was there to take it.
  waiting: Found[] = [];
  private taker: ((found: Found[]) => void) | undefined;

  give(found: Found[]): void {
    if (this.taker) this.taker(found);
    else this.waiting.push(...found);
  }

  take(taker: (found: Found[]) => void): () => void {
    this.taker = taker;
    if (this.waiting.length) taker(this.waiting.splice(0));
    return () => {
      if (this.taker === taker) this.taker = undefined;
    };
  }
}

export const dropping = new Dropping();

function hasFiles(event: DragEvent): boolean {
  return event.dataTransfer?.types.includes("Files") ?? false;
}

async function dropped(event: DragEvent): Promise<void> {
  if (!hasFiles(event) || !event.dataTransfer) return;
  event.preventDefault();
  dropping.over = false;
  const found = await foundIn(event.dataTransfer);
  go("#/");
  dropping.give(found);
}

function pasted(event: ClipboardEvent): void {
  const files = [...(event.clipboardData?.files ?? [])];
  if (!files.length) return;
  event.preventDefault();
  go("#/");
  dropping.give(files.map((file) => ({ name: file.name, file })));
}

export const dropOn = {
  ondragenter: (event: DragEvent) => {
    if (hasFiles(event)) dropping.over = true;
  },
  ondragover: (event: DragEvent) => {
    if (hasFiles(event)) event.preventDefault();
  },
  ondragleave: (event: DragEvent) => {
    if (!event.relatedTarget) dropping.over = false;
  },
  ondrop: (event: DragEvent) => void dropped(event),
  onpaste: pasted,
};

// -- a folder tells that it is one only while the drop is being handled

async function foundIn(transfer: DataTransfer): Promise<Found[]> {
  const items = [...transfer.items].filter((item) => item.kind === "file");
  const entries = items.map((item) => item.webkitGetAsEntry?.() ?? null);
  const plain = [...transfer.files];
  const found = await Promise.all(
    entries.map(async (entry, index) => (entry?.isDirectory ? (await import("./folders.ts")).within(entry) : named(plain[index]))),
  );
  return entries.length ? found.flat() : plain.flatMap((file) => named(file));
}

function named(file: File | undefined): Found[] {
  return file ? [{ name: file.name, file }] : [];
}
