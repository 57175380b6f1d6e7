// The service worker: the page itself, kept for when the gateway is away. What it shows then is the page's
// business; the API is never kept here and does not even come by.

export {};
// What the build is made of; the build fills it in, so that a new build is a new worker.
declare const ASSETS: string[];
declare const BUILD: string;
declare const self: ServiceWorkerGlobalScope;
const NAME = `console-${BUILD}`;
const PAGE = "/";
const FOLDER = "/console/";
// The one file of the folder without a digest in its name.
const ICON = `${FOLDER}icon.svg`;
// A gateway that does not answer for so long is as good as away, where there is a page to show.
const PAGE_WAIT_MS = 4_000;

interface ServiceWorkerGlobalScope {
  addEventListener(type: "install" | "activate", listener: (event: ExtendableEvent) => void): void;
  addEventListener(type: "fetch", listener: (event: FetchEvent) => void): void;
  skipWaiting(): Promise<void>;
  clients: { claim(): Promise<void> };
}
interface ExtendableEvent {
  waitUntil(work: Promise<unknown>): void;
}
interface FetchEvent extends ExtendableEvent {
  request: Request;
  respondWith(answer: Promise<Response>): void;
}

const opened = () => caches.open(NAME);

// Every screen; what an earlier build has already is not fetched again.
async function fill(): Promise<void> {
  const cache = await opened();
  const missing = await Promise.all(ASSETS.map(async (path) => {
    const known = await caches.match(path);
    return known ? cache.put(path, known) : path;
  }));
  await cache.addAll([PAGE, ICON, ...missing.filter((path) => path !== undefined)]);
  await self.skipWaiting();
}

// The page as it is now; the one that is kept where nobody answers.
async function page(request: Request): Promise<Response> {
  const cache = await opened();
  const last = await cache.match(PAGE);
  const answer = fetch(request).then(async (response) => {
    if (response.ok && response.type === "basic") await cache.put(PAGE, response.clone());
    return response;
  });
  if (!last) return answer;
  const late = new Promise<Response>((resolve) => setTimeout(() => resolve(last), PAGE_WAIT_MS));
  return Promise.race([answer, late]).catch(() => last);
}

// What has its digest in its name is what it was.
async function asset(request: Request): Promise<Response> {
  const kept = await caches.match(request);
  if (kept) return kept;
  const response = await fetch(request);
  if (response.ok) await (await opened()).put(request, response.clone());
  return response;
}

// The build before this one stays, for tabs that are still of it; what was before that goes.
async function tidy(): Promise<void> {
  const others = (await caches.keys()).filter((name) => name !== NAME);
  for (const name of others.slice(0, -1)) await caches.delete(name);
  await self.clients.claim();
}

self.addEventListener("install", (event) => event.waitUntil(fill()));
self.addEventListener("activate", (event) => event.waitUntil(tidy()));
self.addEventListener("fetch", (event) => {
  const { request } = event;
  const { origin, pathname } = new URL(request.url);
  if (origin !== location.origin || request.method !== "GET") return;
  if (request.mode === "navigate" && pathname === PAGE) event.respondWith(page(request));
  else if (pathname.startsWith(FOLDER)) event.respondWith(asset(request));
});
