// The files of a dropped folder, with their paths; a browser tells its entries in pages.

import type { Found } from "./drop.svelte.ts";

export async function within(entry: FileSystemEntry): Promise<Found[]> {
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  const found: Found[] = [];
  for (;;) {
    const entries = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (!entries.length) return found;
    for (const one of entries) {
      if (one.isDirectory) found.push(...(await within(one)));
      else found.push({ name: one.fullPath.replace(/^\//, ""), file: await fileOf(one as FileSystemFileEntry) });
    }
  }
}

function fileOf(entry: FileSystemFileEntry): Promise<File> {
  return new Promise((resolve, reject) => entry.file(resolve, reject));
}
