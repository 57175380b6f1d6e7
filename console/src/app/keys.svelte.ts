// Keyboard shortcuts, and which overlay is open. A letter is a shortcut only where nothing is being written.

import { appearance } from "./theme.svelte.ts";
import { go } from "./router.svelte.ts";
import { text } from "../text/text.svelte.ts";

class Overlay {
  open = $state.raw<"" | "palette" | "help" | "login">("");
}

export const overlay = new Overlay();

const GO: Record<string, string> = { h: "#/", b: "#/batches", g: "#/gallery", s: "#/system" };
const SEQUENCE_MS = 1_200;
let goPressedAt = 0;

function isWriting(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && Boolean(target.closest("input, textarea, select, [contenteditable], dialog"));
}

function pressed(event: KeyboardEvent): void {
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
    event.preventDefault();
    overlay.open = "palette";
  }
  if (event.ctrlKey || event.metaKey || event.altKey || isWriting(event.target)) return;
  const follows = Date.now() - goPressedAt < SEQUENCE_MS && GO[event.key];
  goPressedAt = event.key === "g" && !follows ? Date.now() : 0;
  if (follows) go(follows);
  else if (event.key === "?") overlay.open = "help";
  else if (event.key === "t") appearance.switch();
  else if (event.key === "l") void text.switch();
  else if (event.key === "/") {
    const search = document.querySelector<HTMLInputElement>("main input[type=search]");
    if (search) event.preventDefault();
    search?.focus();
  }
}

export function installKeys(): void {
  addEventListener("keydown", pressed);
}
