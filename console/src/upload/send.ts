// Bytes on their way, with their progress; XMLHttpRequest, since fetch does not tell how much has been sent.

import { Away, ApiError } from "../api/http.ts";
import { authorization } from "../api/key.ts";
import type { Item } from "./item.ts";

interface Sending {
  method: "PUT" | "POST";
  path: string;
  headers: Record<string, string>;
  body: XMLHttpRequestBodyInit | null;
}

function sent(sending: Sending, onProgress: (loaded: number) => void, signal: AbortSignal): Promise<string> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open(sending.method, sending.path);
    for (const [name, value] of Object.entries({ ...authorization(), ...sending.headers })) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => onProgress(event.loaded);
    request.onload = () => (request.status < 300 ? resolve(request.responseText) : reject(problemOf(request)));
    request.onerror = request.ontimeout = () => reject(new Away("nobody answers"));
    request.onabort = () => reject(new DOMException("cancelled", "AbortError"));
    signal.addEventListener("abort", () => request.abort(), { once: true });
    request.send(sending.body);
  });
}

type Send = (batchId: string, items: Item[], onProgress: (loaded: number) => void, signal: AbortSignal) => Promise<void>;

// One file of an open batch.
export const put: Send = async (batchId, [item], onProgress, signal) => {
  if (!item) return;
  const path = item.name.split("/").map(encodeURIComponent).join("/");
  const headers: Record<string, string> = { "Content-Type": item.file?.type || "application/octet-stream" };
  if (item.sha256) headers["Content-Digest"] = `sha-256=:${base64(item.sha256)}:`;
  await sent({ method: "PUT", path: `/v1/batches/${batchId}/files/${path}?index=${item.index}`, headers, body: item.file }, onProgress, signal);
};

// Files in a row, of an open batch, in one request: each is known by its place, so that a repeat is harmless.
export const putMany: Send = async (batchId, items, onProgress, signal) => {
  const body = new FormData();
  for (const item of items) if (item.file) body.append("files", item.file, item.name);
  await sent({ method: "POST", path: `/v1/batches/${batchId}/files?index=${items[0]?.index}`, headers: {}, body }, onProgress, signal);
};

function problemOf(request: XMLHttpRequest): ApiError {
  try {
    const problem = JSON.parse(request.responseText);
    return new ApiError(request.status, problem.code, problem.detail);
  } catch {
    return new ApiError(request.status, "unknown", request.statusText || String(request.status));
  }
}

function base64(hex: string): string {
  return btoa(hex.replace(/../g, (two) => String.fromCharCode(parseInt(two, 16))));
}
