// The bodies of the HTTP API, as far as the console reads them.

export type Status = "queued" | "processing" | "waiting" | "retrying" | "completed" | "failed" | "rejected" | "cancelled";
export type BatchStatus =
  | "open" | "queued" | "processing" | "paused" | "completed" | "completed_with_errors" | "failed" | "cancelled";
export type Counted = Exclude<Status, "retrying">;
export type Counts = Record<Counted | "total", number>;
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

export interface Progress {
  settled_pct: number;
  succeeded_pct: number;
  eta_s: number | null;
  waiting_reason: string | null;
}

export interface Results {
  ready: boolean;
  version: number;
  url: string;
  sha256: string | null;
  bytes: number | null;
}

export interface Batch {
  id: string;
  name: string;
  status: BatchStatus;
  processor: string;
  priority: string;
  counts: Counts;
  progress: Progress;
  created_at: string;
  sealed_at: string | null;
  started_at: string | null;
  paused_at: string | null;
  completed_at: string | null;
  cancelled_at: string | null;
  results: Results;
  metadata: Record<string, Json>;
  tags: string[];
  seq: number;
  urls: Record<"self" | "files" | "events" | "results", string>;
  start_at?: string | null;
  expires_at?: string | null;
  limit?: number | null;
  owner?: string | null;
  // What its files are expected to cost, and what of that is done.
  effort?: number;
  effort_done?: number;
  // Facts of the latest retry, which only its event tells.
  retried_at?: string | null;
  retried?: number;
  // Which of the events at ``seq`` was the last; undefined: all of them are in.
  part?: number;
}

export interface FileProblem {
  code: string;
  message: string;
  attempt: number;
  retryable: boolean;
}

export interface Artifact {
  name: string;
  content_type: string;
  url: string;
}

export interface File {
  id: string;
  batch_id: string;
  name: string;
  index: number;
  status: Status;
  attempt: number;
  content_type: string;
  bytes: number;
  sha256: string | null;
  processor: string | null;
  error: FileProblem | null;
  warnings: string[];
  queued_at: string | null;
  started_at: string | null;
  finished_at: string | null;
  duration_ms: number | null;
  source: { state: "stored" | "archived"; url: string } | null;
  result_url: string | null;
  artifacts: Artifact[];
  seq: number;
  quarantined?: boolean;
  provider?: string | null;
  cost?: { provider: string; model: string; input_tokens: number; output_tokens: number; usd: number | null } | null;
  reused?: boolean;
}

// An event in its CloudEvents envelope; ``data`` depends on the type.
export interface Event {
  id: string;
  seq: number;
  // Its place among several events at one position, from 0.
  part?: number;
  type: string;
  time: string;
  source?: string;
  batchid: string;
  fileid?: string;
  actor?: string;
  data: Record<string, any>;
}

export interface Page<T> {
  data: T[];
  next_cursor: string | null;
  has_more: boolean;
}

export interface Problem {
  title: string;
  status: number;
  detail: string;
  code: string;
  errors?: { field: string; detail: string }[];
}
