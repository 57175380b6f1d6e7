// Whether the gateway serves another build than the one this tab is of: it is said, and the tab stays as it is,
// since somebody may be uploading in it.

import { t } from "../text/text.svelte.ts";
import { toasts } from "./toasts.svelte.ts";

let told = false;

export async function lookForNewer(): Promise<void> {
  const mine = document.querySelector("script[src]")?.getAttribute("src") ?? "";
  // Not a navigation, so no service worker answers it.
  const page = await fetch("/", { cache: "no-cache" }).then((answer) => (answer.ok ? answer.text() : mine), () => mine);
  if (told || page.includes(mine)) return;
  told = true;
  toasts.add({ tone: "plain", text: t("newer"), action: { text: t("newer_reload"), run: () => location.reload() } }, 0);
}
