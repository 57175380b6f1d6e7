// What was last read, in IndexedDB: shown when nobody answers. Without IndexedDB nothing is kept.

const NAME = "tanda";
const STORES = ["reads", "uploads"] as const;
const READS_MAX = 300;

export type StoreName = (typeof STORES)[number];
export interface Kept<T> {
  path: string;
  at: number;
  body: T;
}

let opened: Promise<IDBDatabase | null> | undefined;

function open(): Promise<IDBDatabase | null> {
  opened ??= new Promise((resolve) => {
    if (typeof indexedDB === "undefined") return resolve(null);
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => {
      const reads = request.result.createObjectStore("reads", { keyPath: "path" });
      reads.createIndex("at", "at");
      request.result.createObjectStore("uploads", { keyPath: "batchId" });
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = request.onblocked = () => resolve(null);
  });
  return opened;
}

async function run<T>(store: StoreName, mode: IDBTransactionMode, ask: (store: IDBObjectStore) => IDBRequest<T>) {
  const database = await open();
  if (!database) return undefined;
  return new Promise<T | undefined>((resolve) => {
    const request = ask(database.transaction(store, mode).objectStore(store));
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => resolve(undefined); // a full disk costs the offline view, nothing else
  });
}

export async function kept<T>(path: string): Promise<Kept<T> | undefined> {
  return run("reads", "readonly", (store) => store.get(path) as IDBRequest<Kept<T> | undefined>);
}

export async function keep(path: string, body: unknown): Promise<void> {
  await run("reads", "readwrite", (store) => store.put({ path, at: Date.now(), body }));
  const count = (await run("reads", "readonly", (store) => store.count())) ?? 0;
  if (count > READS_MAX) await forgetOldest(count - READS_MAX);
}

async function forgetOldest(count: number): Promise<void> {
  const database = await open();
  if (!database) return;
  const cursor = database.transaction("reads", "readwrite").objectStore("reads").index("at").openCursor();
  let left = count;
  cursor.onsuccess = () => {
    if (!cursor.result || left-- <= 0) return;
    cursor.result.delete();
    cursor.result.continue();
  };
}

export const uploadsKept = {
  count: async () => (await run("uploads", "readonly", (store) => store.count())) ?? 0,
  all: async <T>() => (await run("uploads", "readonly", (store) => store.getAll() as IDBRequest<T[]>)) ?? [],
  put: <T extends { batchId: string }>(record: T) => run("uploads", "readwrite", (store) => store.put(record)),
  remove: (batchId: string) => run("uploads", "readwrite", (store) => store.delete(batchId)),
};
