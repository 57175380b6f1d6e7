// The console: uploads, and every batch live. It asks the public API and nothing else.

const WORDS = {
  es: {
    drop: "Suelta aquí tus archivos o elígelos", closing: "Tras la subida puedes cerrar la página: el trabajo continúa.",
    batches: "Lotes", none: "Todavía no hay lotes.", key: "Clave de acceso", enter: "Entrar", file: "Archivo",
    state: "Estado", detail: "Detalle", download: "Descargar JSON", more: "Más archivos", live: "En directo",
    lost: "Sin conexión; reconectando…", sending: "Subiendo", queued: "en cola", processing: "procesando",
    waiting: "esperando", retrying: "reintentando", completed: "completado", failed: "fallido", rejected: "rechazado",
    cancelled: "cancelado", paused: "en pausa", open: "abierto", completed_with_errors: "completado con errores",
    of: "de", errors: "con errores",
  },
  en: {
    drop: "Drop your files here or choose them", closing: "After the upload you may close this page: the work goes on.",
    batches: "Batches", none: "No batches yet.", key: "Access key", enter: "Enter", file: "File",
    state: "State", detail: "Detail", download: "Download JSON", more: "More files", live: "Live",
    lost: "Connection lost; reconnecting…", sending: "Uploading", queued: "queued", processing: "processing",
    waiting: "waiting", retrying: "retrying", completed: "completed", failed: "failed", rejected: "rejected",
    cancelled: "cancelled", paused: "paused", open: "open", completed_with_errors: "completed with errors",
    of: "of", errors: "with errors",
  },
};
const language = navigator.language.startsWith("en") ? "en" : "es";
const words = WORDS[language];
document.documentElement.lang = language;

const REFRESH_MS = 400;
const RECONNECT_MS = 1000;
const SILENCE_MS = 45000;
const $ = (id) => document.getElementById(id);
const rows = new Map();
const changed = new Map();
let after = 0;

function fill(root) {
  for (const element of root.querySelectorAll("[data-text]")) element.textContent = words[element.dataset.text];
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

// -- batches

function show(batch) {
  let row = rows.get(batch.id);
  if (row && row.batch.seq > batch.seq) return;
  if (!row) row = addRow(batch);
  row.batch = batch;
  const { counts } = batch;
  const find = (name) => row.element.querySelector(name);
  find(".open").textContent = batch.name;
  const status = find(".status");
  status.textContent = words[batch.status] ?? batch.status;
  status.className = `status ${batch.status === "open" ? "open-batch" : batch.status}`;
  const errors = counts.failed + counts.rejected;
  find(".counts").textContent = `${counts.completed} ${words.of} ${counts.total}` + (errors ? `, ${errors} ${words.errors}` : "");
  const progress = find("progress");
  progress.value = batch.progress.settled_pct;
  progress.setAttribute("aria-label", batch.name);
  const link = find(".download");
  link.hidden = !batch.results.ready;
  link.href = batch.results.url;
  if (row.files.open) loadFiles(row);
}

function addRow(batch) {
  const element = $("batchRow").content.cloneNode(true).firstElementChild;
  fill(element);
  const row = { element, batch, files: { open: false, limit: 50, loading: false } };
  rows.set(batch.id, row);
  const newer = [...rows.values()].filter((one) => one !== row && one.batch.id < batch.id);
  const next = newer.sort((a, b) => (a.batch.id < b.batch.id ? 1 : -1))[0];
  $("batches").insertBefore(element, next?.element ?? null);
  $("none").hidden = true;
  element.querySelector(".open").addEventListener("click", (event) => {
    row.files.open = !row.files.open;
    event.target.setAttribute("aria-expanded", String(row.files.open));
    element.querySelector(".files").hidden = !row.files.open;
    element.querySelector(".more").hidden = true;
    if (row.files.open) loadFiles(row);
  });
  element.querySelector(".more").addEventListener("click", () => {
    row.files.limit = Math.min(200, row.files.limit * 2);
    loadFiles(row);
  });
  element.querySelector(".download").addEventListener("click", (event) => {
    if (!sessionStorage.getItem("key")) return;
    event.preventDefault();
    download(row.batch);
  });
  return row;
}

async function download(batch) {
  const response = await ask(batch.results.url);
  if (!response.ok) return;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await response.blob());
  link.download = `${batch.id}_resultados.json`;
  link.click();
  URL.revokeObjectURL(link.href);
}

async function loadFiles(row) {
  if (row.files.loading) return;
  row.files.loading = true;
  try {
    const response = await ask(`${row.batch.urls.files}?limit=${row.files.limit}`);
    if (!response.ok) return;
    const page = await response.json();
    const body = row.element.querySelector("tbody");
    body.replaceChildren(...page.data.map(fileRow));
    row.element.querySelector(".more").hidden = !page.has_more || row.files.limit >= 200;
  } finally {
    row.files.loading = false;
  }
}

function fileRow(file) {
  const row = document.createElement("tr");
  const cells = [file.name, words[file.status] ?? file.status, file.error?.message ?? file.warnings.join(", ")];
  for (const text of cells) row.insertCell().textContent = text;
  row.cells[1].className = file.status;
  return row;
}

async function refresh() {
  const batch = changed.entries().next().value;
  if (!batch) return;
  const [id, seq] = batch;
  changed.delete(id);
  const response = await ask(`/v1/batches/${id}?min_seq=${seq}`);
  if (response.ok) show(await response.json());
  else if (response.status === 503) changed.set(id, Math.max(seq, changed.get(id) ?? 0));
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
    await new Promise((resolve) => setTimeout(resolve, RECONNECT_MS));
  }
}

async function list() {
  const response = await ask("/v1/batches?limit=50");
  if (!response.ok) throw new Error(String(response.status));
  for (const batch of (await response.json()).data) show(batch);
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
  if (fields.event === "snapshot") data.batches.forEach(show);
  else changed.set(data.batchid, data.seq);
}

// -- uploading

function upload(files) {
  if (!files.length) return;
  const form = new FormData();
  for (const file of files) form.append("files", file, file.name);
  const request = new XMLHttpRequest();
  request.open("POST", "/v1/batches");
  for (const [name, value] of Object.entries(headers())) request.setRequestHeader(name, value);
  request.setRequestHeader("Idempotency-Key", crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`);
  $("sending").hidden = false;
  $("error").hidden = true;
  request.upload.addEventListener("progress", (event) => {
    $("sent").value = event.total ? event.loaded / event.total : 0;
    $("sentText").textContent = `${words.sending} ${files.length}: ${Math.round($("sent").value * 100)} %`;
  });
  request.addEventListener("loadend", () => {
    $("sending").hidden = true;
    $("picker").value = "";
    if (request.status === 201) show(JSON.parse(request.responseText));
    else if (request.status === 401) login().then(() => upload(files));
    else fail(request);
  });
  request.send(form);
}

function fail(request) {
  let text = words.lost;
  try {
    text = JSON.parse(request.responseText).detail;
  } catch {
    /* no answer at all */
  }
  $("error").textContent = text;
  $("error").hidden = false;
}

fill(document);
const drop = $("drop");
$("picker").addEventListener("change", (event) => upload([...event.target.files]));
for (const name of ["dragover", "dragenter"]) {
  drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
}
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  upload([...event.dataTransfer.files]);
});
setInterval(() => { refresh().catch(() => {}); }, REFRESH_MS / 4);
follow();
