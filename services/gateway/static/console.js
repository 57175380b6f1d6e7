// The console: uploads, and every batch live. It asks the public API and nothing else.

const WORDS = {
  es: {
    drop: "Suelta aquí tus archivos o elígelos", sending: "Subiendo; no cierres la página todavía. Archivos:",
    received: "Recibido todo: puedes cerrar la página, el trabajo continúa. Archivos:",
    broken: "La subida se interrumpió; elige los archivos otra vez.",
    batches: "Lotes", none: "Todavía no hay lotes.", key: "Clave de acceso", enter: "Entrar", file: "Archivo",
    state: "Estado", detail: "Detalle", download: "Descargar JSON", more: "Más archivos", live: "En directo",
    lost: "Sin conexión; reconectando…", queued: "en cola", processing: "procesando",
    waiting: "esperando", retrying: "reintentando", completed: "completado", failed: "fallido", rejected: "rechazado",
    cancelled: "cancelado", paused: "en pausa", open: "abierto", completed_with_errors: "completado con errores",
    of: "de", errors: "con errores",
  },
  en: {
    drop: "Drop your files here or choose them", sending: "Uploading; keep this page open. Files:",
    received: "All received: you may close this page, the work goes on. Files:",
    broken: "The upload broke off; choose the files again.",
    batches: "Batches", none: "No batches yet.", key: "Access key", enter: "Enter", file: "File",
    state: "State", detail: "Detail", download: "Download JSON", more: "More files", live: "Live",
    lost: "Connection lost; reconnecting…", queued: "queued", processing: "processing",
    waiting: "waiting", retrying: "retrying", completed: "completed", failed: "failed", rejected: "rejected",
    cancelled: "cancelled", paused: "paused", open: "open", completed_with_errors: "completed with errors",
    of: "of", errors: "with errors",
  },
};
const language = navigator.language.startsWith("en") ? "en" : "es";
const words = WORDS[language];

const REFRESH_MS = 200;
const RECONNECT_MS = 1000;
const SILENCE_MS = 45000;
const FILES_PAGE = 200;
const $ = (id) => document.getElementById(id);
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const rows = new Map();
// Batches to ask for again, each with the log position that the answer must have.
const changed = new Map();
let after = 0;

function fill(root) {
  for (const element of root.querySelectorAll("[data-text]")) element.textContent = words[element.dataset.text];
}

function copy(template) {
  const element = $(template).content.cloneNode(true).firstElementChild;
  fill(element);
  return element;
}

// -- asking

function headers() {
  const key = sessionStorage.getItem("key");
  return key ? { Authorization: `Bearer ${key}` } : {};
}

async function login() {
  const dialog = $("login");
  if (!dialog.open) dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  sessionStorage.setItem("key", $("key").value);
}

async function ask(path, options = {}) {
  for (;;) {
    const response = await fetch(path, { ...options, headers: { ...headers(), ...options.headers } });
    if (response.status !== 401) return response;
    await login();
  }
}

async function get(path) {
  const response = await ask(path);
  if (!response.ok) throw new Error(String(response.status));
  return response;
}

// -- batches

function show(batch) {
  let row = rows.get(batch.id);
  if (row && row.batch.seq > batch.seq) return;
  if (!row) row = addRow(batch);
  row.batch = batch;
  const { counts } = batch;
  const find = (name) => row.element.querySelector(name);
  find(".toggle").textContent = batch.name;
  const status = find(".status");
  status.textContent = words[batch.status] ?? batch.status;
  status.className = `status ${batch.status}`;
  const errors = counts.failed + counts.rejected;
  find(".counts").textContent = `${counts.completed} ${words.of} ${counts.total}` + (errors ? `, ${errors} ${words.errors}` : "");
  const progress = find("progress");
  progress.value = batch.progress.settled_pct;
  progress.setAttribute("aria-label", batch.name);
  const link = find(".download");
  link.hidden = !batch.results.ready;
  link.href = batch.results.url;
}

function addRow(batch) {
  const element = copy("batchRow");
  const row = { element, batch, open: false, shown: FILES_PAGE };
  rows.set(batch.id, row);
  element.id = batch.id;
  const list = $("batches");
  list.insertBefore(element, [...list.children].find((other) => other.id < batch.id) ?? null);
  $("none").hidden = true;
  element.querySelector(".toggle").addEventListener("click", (event) => {
    row.open = !row.open;
    event.target.setAttribute("aria-expanded", String(row.open));
    element.querySelector(".inside").hidden = !row.open;
    again(batch.id);
  });
  element.querySelector(".more").addEventListener("click", () => {
    row.shown += FILES_PAGE;
    again(batch.id);
  });
  element.querySelector(".download").addEventListener("click", (event) => {
    if (!sessionStorage.getItem("key")) return;
    event.preventDefault();
    download(row.batch);
  });
  return row;
}

// A link can send no key.
async function download(batch) {
  const response = await get(batch.results.url);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await response.blob());
  link.download = `${batch.id}_resultados.json`;
  link.click();
  URL.revokeObjectURL(link.href);
}

async function showFiles(row) {
  const files = [];
  let page = { has_more: true, next_cursor: "" };
  while (page.has_more && files.length < row.shown) {
    const cursor = page.next_cursor && `&cursor=${encodeURIComponent(page.next_cursor)}`;
    page = await (await get(`${row.batch.urls.files}?limit=${FILES_PAGE}${cursor}`)).json();
    files.push(...page.data);
  }
  row.element.querySelector("tbody").replaceChildren(...files.map(fileRow));
  row.element.querySelector(".more").hidden = !page.has_more;
}

function fileRow(file) {
  const row = document.createElement("tr");
  const cells = [file.name, words[file.status] ?? file.status, file.error?.message ?? file.warnings.join(", ")];
  for (const text of cells) row.insertCell().textContent = text;
  row.cells[1].className = file.status;
  return row;
}

function again(id, seq = 0) {
  changed.set(id, Math.max(seq, changed.get(id) ?? 0));
}

async function update(id, seq) {
  const response = await ask(`/v1/batches/${id}?min_seq=${seq}`);
  if (response.status === 404) {
    rows.get(id)?.element.remove();
    rows.delete(id);
    return;
  }
  if (!response.ok) throw new Error(String(response.status));
  show(await response.json());
  const row = rows.get(id);
  if (row.open) await showFiles(row);
}

async function refresh() {
  for (;;) {
    for (const [id, seq] of [...changed]) {
      changed.delete(id);
      try {
        await update(id, seq);
      } catch {
        again(id, seq);
        await sleep(RECONNECT_MS);
      }
    }
    await sleep(REFRESH_MS);
  }
}

// -- live: fetch and not EventSource, which can send no key

async function follow() {
  for (;;) {
    try {
      if (!after) await list();
      await stream();
    } catch {
      /* the connection is gone; the log position is not */
    }
    $("connection").textContent = words.lost;
    await sleep(RECONNECT_MS);
  }
}

async function list() {
  const response = await get("/v1/batches?limit=50");
  for (const batch of (await response.json()).data) show(batch);
  $("none").hidden = rows.size > 0;
  after = Number(response.headers.get("Tanda-Seq"));
}

async function stream() {
  const abort = new AbortController();
  let alarm = setTimeout(() => abort.abort(), SILENCE_MS);
  const response = await ask("/v1/events", { headers: { "Last-Event-ID": String(after) }, signal: abort.signal });
  if (!response.ok) throw new Error(String(response.status));
  $("connection").textContent = words.live;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    clearTimeout(alarm);
    alarm = setTimeout(() => abort.abort(), SILENCE_MS);
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) take(block);
  }
}

function take(block) {
  const fields = {};
  for (const line of block.split("\n")) {
    const colon = line.indexOf(": ");
    if (colon > 0) fields[line.slice(0, colon)] = line.slice(colon + 2);
  }
  if (!fields.id) return;
  after = Number(fields.id);
  if (fields.event === "drain") return;
  const data = JSON.parse(fields.data);
  if (fields.event !== "snapshot") return again(data.batchid, data.seq);
  // Too much has happened for every event to be told: what is shown may be old.
  for (const id of rows.keys()) again(id);
  data.batches.forEach(show);
}

// -- uploading

function upload(files) {
  for (const old of document.querySelectorAll(".upload:not(.sending)")) old.remove();
  const line = $("uploads").appendChild(copy("uploadRow"));
  const progress = line.querySelector("progress");
  const form = new FormData();
  for (const file of files) form.append("files", file);
  const request = new XMLHttpRequest();
  request.open("POST", "/v1/batches");
  for (const [name, value] of Object.entries(headers())) request.setRequestHeader(name, value);
  // A browser may send a request twice when a connection breaks.
  request.setRequestHeader("Idempotency-Key", `${Date.now()}-${Math.random()}`);
  request.upload.addEventListener("progress", (event) => { progress.value = event.loaded / event.total; });
  request.addEventListener("loadend", () => {
    line.classList.remove("sending");
    if (request.status === 401) return login().then(() => upload(files));
    line.classList.add(request.status === 201 ? "completed" : "failed");
    if (request.status !== 201) line.textContent = problem(request.responseText);
    else {
      line.textContent = `${words.received} ${files.length}`;
      show(JSON.parse(request.responseText));
    }
  });
  line.append(`${words.sending} ${files.length}`);
  request.send(form);
}

function problem(answer) {
  try {
    return JSON.parse(answer).detail;
  } catch {
    return words.broken;
  }
}

document.documentElement.lang = language;
fill(document);
$("picker").addEventListener("change", (event) => {
  upload([...event.target.files]);
  event.target.value = "";
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  $("drop").classList.add("over");
});
document.addEventListener("dragleave", () => $("drop").classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  upload([...event.dataTransfer.files]);
});
addEventListener("beforeunload", (event) => {
  if (document.querySelector(".sending")) event.preventDefault();
});
refresh();
follow();
