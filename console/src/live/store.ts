// A pure fold of the log's events into the bodies of the API: the same rows as the projector's views.
// It has no clock and asks nobody; golden vectors written by the Python side hold it to that.

import { statusOf } from "./progress.ts";
import type { Batch, Counted, Event, File, FileProblem, Status } from "./types.ts";

const STATUS_AFTER: Record<string, Status> = {
  FileQueued: "queued",
  FileRejected: "rejected",
  FileStarted: "processing",
  FileWaiting: "waiting",
  FileCompleted: "completed",
  FileAttemptFailed: "retrying",
  FileFailed: "failed",
  FileCancelled: "cancelled",
};
const NO_COUNTS = {
  total: 0, queued: 0, processing: 0, waiting: 0, completed: 0, failed: 0, rejected: 0, cancelled: 0,
};

export function kindOf(event: Event): string {
  return event.type.split(".")[1] ?? event.type;
}

// Of several events at one position each is news once, in their order; a batch that was read has all of them.
function isNews(batch: Batch, event: Event): boolean {
  return event.seq > batch.seq || (event.seq === batch.seq && (event.part ?? 0) > (batch.part ?? Infinity));
}

// The batch after an event; as it was where the event is not news, and undefined while it is unknown.
export function foldBatch(batch: Batch | undefined, event: Event): Batch | undefined {
  const kind = kindOf(event);
  if (!batch) return kind === "BatchCreated" ? created(event) : undefined;
  if (!isNews(batch, event)) return batch;
  const next = { ...batch, seq: event.seq, part: event.part };
  const after = STATUS_AFTER[kind];
  if (after) count(next, event, after);
  else change(next, event, kind);
  next.status = statusOf(next);
  return next;
}

// The views' database refuses the character NUL, which JSON allows.
function clean(text: string): string {
  return text.replaceAll("\0", "\ufffd");
}

function created(event: Event): Batch {
  const { data } = event;
  const url = `/v1/batches/${event.batchid}`;
  return {
    id: event.batchid, name: clean(data.name), status: "open", processor: clean(data.processor ?? "auto"),
    priority: data.priority ?? "normal", counts: { ...NO_COUNTS },
    progress: { settled_pct: 0, succeeded_pct: 0, eta_s: null, waiting_reason: null },
    created_at: event.time, sealed_at: null, started_at: null, paused_at: null, completed_at: null,
    cancelled_at: null, retried_at: null, retried: 0, start_at: data.start_at ?? null,
    expires_at: data.expires_at ?? null, owner: data.owner ?? null, limit: data.limit ?? null,
    effort: 0, effort_done: 0,
    results: { ready: false, version: 0, url: `${url}/results`, sha256: null, bytes: null },
    metadata: data.metadata ?? {}, tags: (data.tags ?? []).map(clean), seq: event.seq,
    urls: { self: url, files: `${url}/files`, events: `${url}/events`, results: `${url}/results` },
  };
}

function counted(status: Status): Counted {
  return status === "retrying" ? "queued" : status;
}

// A file moved from one status to another, or is new.
function count(batch: Batch, event: Event, after: Status): void {
  const counts = (batch.counts = { ...batch.counts });
  const previous = previousOf(event, after);
  counts[counted(after)] += 1;
  if (previous) counts[counted(previous)] -= 1;
  else counts.total += 1;
  // Both only grow: what is queued again after its outcome is more to do, a further attempt is not.
  const effort = event.data.effort ?? 0;
  if (after !== "queued") batch.effort_done = (batch.effort_done ?? 0) + effort;
  else if (previous !== "retrying") batch.effort = (batch.effort ?? 0) + effort;
  // Quick work tells its start with its outcome.
  batch.started_at ??= after === "processing" ? event.time : event.data.started_at ?? null;
}

// The status that the file left; the log leaves out what is the default.
function previousOf(event: Event, after: Status): Status | null {
  if (after === "queued") return event.data.previous ?? null;
  if (after === "rejected") return null;
  return event.data.previous ?? "processing";
}

function change(batch: Batch, event: Event, kind: string): void {
  const { data, time } = event;
  if (kind === "BatchSealed") batch.sealed_at = time;
  else if (kind === "BatchPaused") batch.paused_at = time;
  else if (kind === "BatchResumed") batch.paused_at = null;
  else if (kind === "BatchCancelled") Object.assign(batch, { cancelled_at: time, paused_at: null });
  else if (kind === "FilesRetried") {
    Object.assign(batch, { completed_at: null, cancelled_at: null, retried_at: time, retried: data.total || data.file_ids.length });
    batch.results = { ...batch.results, ready: false };
  } else if (kind === "BatchChanged") {
    const fields = batch as unknown as Record<string, unknown>;
    for (const name of data.changed) fields[name] = data[name] ?? null;
  } else if (kind === "BatchCompleted") {
    Object.assign(batch, { completed_at: time, paused_at: null });
    const { sha256, bytes } = data.results;
    batch.results = { ...batch.results, ready: true, version: data.version, sha256, bytes };
  }
}

// The files of a batch that an event of the batch itself touches: it tells where sources are now.
export function archivedBy(event: Event): string[] {
  const kind = kindOf(event);
  if (kind === "SourcesArchived") return Object.keys(event.data.sources);
  return kind === "SourceForceArchived" ? [event.data.file_id] : [];
}

export function foldArchived(file: File, event: Event): File {
  if (event.seq <= file.seq) return file;
  const url = `/v1/batches/${file.batch_id}/files/${file.id}/source`;
  return { ...file, source: { state: "archived", url }, seq: event.seq };
}

// The file after an event of its own; see ``foldBatch``.
export function foldFile(file: File | undefined, event: Event): File | undefined {
  const kind = kindOf(event);
  const isNew = kind === "FileRejected" || (kind === "FileQueued" && !event.data.previous);
  if (!file) return isNew ? newFile(event, kind) : undefined;
  const changes = CHANGES[kind];
  if (event.seq <= file.seq || !changes) return file;
  return { ...file, ...changes(event, file), seq: event.seq };
}

function fileUrl(event: Event): string {
  return `/v1/batches/${event.batchid}/files/${event.fileid}`;
}

// What no attempt has brought about yet.
const VOID = {
  warnings: [], started_at: null, duration_ms: null, result_url: null, artifacts: [], quarantined: false, provider: null,
  cost: null, reused: false,
};

function newFile(event: Event, kind: string): File {
  const { data, time } = event;
  const isQueued = kind === "FileQueued";
  return {
    id: event.fileid ?? "", batch_id: event.batchid, name: clean(data.name), index: data.index,
    status: isQueued ? "queued" : "rejected", attempt: isQueued ? data.attempt ?? 1 : 0,
    content_type: clean(data.content_type), bytes: data.bytes, sha256: data.sha256 ?? null,
    processor: data.processor ?? null, error: isQueued ? null : problem(data.error, 0), ...VOID,
    queued_at: isQueued ? time : null, finished_at: isQueued ? null : time,
    source: isQueued ? { state: "stored", url: `${fileUrl(event)}/source` } : null,
    seq: event.seq,
  };
}

function problem(error: FileProblem, attempt: number): FileProblem {
  return { ...error, attempt, retryable: error.retryable ?? false };
}

// As Python's ``quote(name, safe="")``: what ``encodeURIComponent`` leaves alone is quoted too.
function quoted(name: string): string {
  return encodeURIComponent(name).replace(/[!'()*]/g, (sign) => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`);
}

const CHANGES: Record<string, (event: Event, file: File) => Partial<File>> = {
  // A further attempt: the outcome so far is void.
  FileQueued: ({ data, time }) => ({
    status: "queued", attempt: data.attempt ?? 1, processor: data.processor, queued_at: time, error: null,
    finished_at: null, ...VOID,
  }),
  FileStarted: ({ data: { attempt, processor, provider }, time }) => ({
    status: "processing", attempt, processor, started_at: time, provider: provider ?? null,
  }),
  FileWaiting: () => ({ status: "waiting" }),
  FileCompleted: (event, file) => ({
    status: "completed", processor: event.data.processor, error: null, warnings: event.data.warnings ?? [],
    artifacts: (event.data.artifacts ?? []).map((one: { name: string; content_type: string }) => ({
      name: one.name, content_type: one.content_type, url: `${fileUrl(event)}/artifacts/${quoted(one.name)}`,
    })),
    finished_at: event.time, duration_ms: event.data.duration_ms, result_url: `${fileUrl(event)}/result`,
    cost: event.data.usage ?? null, reused: event.data.reused ?? false, started_at: event.data.started_at ?? file.started_at,
  }),
  FileAttemptFailed: ({ data }) => ({
    status: "retrying", error: problem(data.error, data.attempt), duration_ms: data.duration_ms ?? 0,
  }),
  FileFailed: ({ data, time }) => ({
    status: "failed", error: problem(data.error, data.attempt), finished_at: time, duration_ms: data.duration_ms ?? 0,
    quarantined: data.quarantined ?? false,
  }),
  FileCancelled: ({ time }) => ({ status: "cancelled", finished_at: time }),
};
