// Where we are, in the address after ``#``: it can be kept, shared and gone back to.

export type ScreenName = "home" | "batches" | "batch" | "file" | "gallery" | "system" | "unknown";

export interface Place {
  name: ScreenName;
  batchId: string;
  fileId: string;
  query: URLSearchParams;
}

export function placeOf(hash: string): Place {
  const [path = "", search = ""] = hash.replace(/^#/, "").split("?");
  const [first = "", batchId = "", files = "", fileId = ""] = path.split("/").filter(Boolean).map(decodeURIComponent);
  const place = { batchId, fileId, query: new URLSearchParams(search) };
  if (!first) return { name: "home", ...place };
  if (first === "batches" && files === "files" && fileId) return { name: "file", ...place };
  if (first === "batches" && batchId) return { name: "batch", ...place };
  if (first === "batches" || first === "gallery" || first === "system") return { name: first, ...place };
  return { name: "unknown", ...place };
}

class Router {
  place = $state.raw<Place>(placeOf(location.hash));

  constructor() {
    addEventListener("hashchange", () => (this.place = placeOf(location.hash)));
  }
}

export const router = new Router();

export function go(hash: string): void {
  location.hash = hash;
}

// Changes what is asked for in place: no new entry to go back through for each letter of a search.
export function replaceQuery(values: Record<string, string | null>): void {
  const query = new URLSearchParams(router.place.query);
  for (const [name, value] of Object.entries(values)) {
    if (value) query.set(name, value);
    else query.delete(name);
  }
  const path = location.hash.replace(/^#/, "").split("?")[0] || "/";
  const search = query.toString();
  history.replaceState(null, "", `#${path}${search && `?${search}`}`);
  router.place = placeOf(location.hash);
}

export const batchHash = (batchId: string) => `#/batches/${batchId}`;
export const fileHash = (batchId: string, fileId: string) => `#/batches/${batchId}/files/${fileId}`;
