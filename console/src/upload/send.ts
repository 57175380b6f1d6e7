// One file's PUT, with its progress; XMLHttpRequest, since fetch does not tell how much has been sent.

import { Away, ApiError } from "../api/http.ts";
import { authorization } from "../api/key.ts";
import type { Item } from "./item.ts";

export function put(batchId: string, item: Item, onProgress: (loaded: number) => void, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const path = item.name.split("/").map(encodeURIComponent).join("/");
    request.open("PUT", `/v1/batches/${batchId}/files/${path}?index=${item.index}`);
    for (const [name, value] of Object.entries(authorization())) request.setRequestHeader(name, value);
    request.setRequestHeader("Content-Type", item.file?.type || "application/octet-stream");
    if (item.sha256) request.setRequestHeader("Content-Digest", `sha-256=:${base64(item.sha256)}:`);
    request.upload.onprogress = (event) => onProgress(event.loaded);
    request.onload = () => (request.status < 300 ? resolve() : reject(problemOf(request)));
    request.onerror = request.ontimeout = () => reject(new Away("nobody answers"));
    request.onabort = () => reject(new DOMException("cancelled", "AbortError"));
    signal.addEventListener("abort", () => request.abort(), { once: true });
    request.send(item.file);
  });
}

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
