// Reads files beside the page: their first bytes for the check, all of them for the digest.

import { HEAD_BYTES } from "./check.ts";
import { Sha256 } from "./sha256.ts";

export interface Asked {
  index: number;
  file: File;
}
export interface Digested {
  index: number;
  // Null where the browser could not read the file.
  sha256: string | null;
  head: Uint8Array;
}

async function digest({ index, file }: Asked): Promise<Digested> {
  const sum = new Sha256();
  let head: Uint8Array = new Uint8Array();
  try {
    const reader = file.stream().getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      if (head.length < HEAD_BYTES) head = joined(head, value).slice(0, HEAD_BYTES);
      sum.update(value);
    }
  } catch {
    return { index, sha256: null, head };
  }
  return { index, sha256: sum.hex(), head };
}

function joined(one: Uint8Array, other: Uint8Array): Uint8Array {
  const both = new Uint8Array(one.length + other.length);
  both.set(one);
  both.set(other, one.length);
  return both;
}

self.onmessage = async ({ data }: MessageEvent<Asked[]>) => {
  const done: Digested[] = [];
  for (const asked of data) done.push(await digest(asked));
  self.postMessage(done);
};
