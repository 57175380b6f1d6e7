// The public API and nothing else. A read that nobody answers is what was last read, and says so.

import type { Problem } from "../live/types.ts";
import { keep, kept } from "./keep.ts";
import { authorization } from "./key.ts";

const READ_TIMEOUT_MS = 15_000;
const VIEW_BEHIND_RETRIES = 3;

// The API's own sentence for what went wrong; ``code`` is stable.
export class ApiError extends Error {
  constructor(readonly status: number, readonly code: string, detail: string) {
    super(detail);
  }

  // The gateway has no such route yet.
  get isMissing(): boolean {
    return this.code === "route_not_found" || this.code === "method_not_allowed" || this.status === 405;
  }
}

// Nobody answered.
export class Away extends Error {}

export interface Answer<T> {
  body: T;
  // When it was read, in epoch milliseconds, where it is not of now.
  keptAt: number | null;
  // Whose it is, where it is another tenant's.
  tenant?: string | null;
}

async function problemOf(response: Response): Promise<ApiError> {
  const problem = (await response.json().catch(() => ({}))) as Partial<Problem>;
  const detail = problem.errors?.map((one) => `${one.field}: ${one.detail}`).join("; ") || problem.detail;
  return new ApiError(response.status, problem.code ?? "unknown", detail || problem.title || response.statusText);
}

async function ask(path: string, init: RequestInit): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path, { ...init, headers: { ...authorization(), ...init.headers } });
  } catch (error) {
    if (init.signal?.aborted && init.signal.reason?.name !== "TimeoutError") throw error;
    throw new Away("nobody answers");
  }
  if (!response.ok) throw await problemOf(response);
  return response;
}

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

// A GET of JSON that has seen at least the position ``minSeq``.
export async function read<T>(path: string, minSeq = 0): Promise<Answer<T>> {
  const url = minSeq ? `${path}${path.includes("?") ? "&" : "?"}min_seq=${minSeq}` : path;
  for (let attempt = 0; ; attempt += 1) {
    try {
      const response = await ask(url, { signal: AbortSignal.timeout(READ_TIMEOUT_MS) });
      const body = (await response.json()) as T;
      void keep(path, body);
      return { body, keptAt: null, tenant: response.headers.get("Tanda-Tenant") };
    } catch (error) {
      const isAway = error instanceof Away || (error instanceof ApiError && error.status === 503);
      if (!isAway) throw error;
      if (error instanceof ApiError && error.code === "view_behind" && attempt < VIEW_BEHIND_RETRIES) {
        await sleep(500);
        continue;
      }
      const last = await kept<T>(path);
      if (!last) throw error;
      return { body: last.body, keptAt: last.at };
    }
  }
}

export async function readBytes(path: string, signal?: AbortSignal, limit?: number): Promise<Blob> {
  const headers: Record<string, string> = limit ? { Range: `bytes=0-${limit - 1}` } : {};
  return (await ask(path, { headers, signal })).blob();
}

// A command, safe to repeat: its key makes a second one the first one's answer.
export async function post<T>(path: string, body: unknown = undefined, method = "POST"): Promise<T> {
  const headers: Record<string, string> = { "Idempotency-Key": newKey() };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const response = await ask(path, {
    method, headers, body: body === undefined ? undefined : JSON.stringify(body), keepalive: true,
  });
  return (await response.json()) as T;
}

// ``crypto.randomUUID`` is there on secure pages only.
export function newKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (one) => one.toString(16).padStart(2, "0")).join("");
}

export function query(values: Record<string, string | number | null | undefined>): string {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) if (value || value === 0) search.set(name, String(value));
  const text = search.toString();
  return text && `?${text}`;
}
