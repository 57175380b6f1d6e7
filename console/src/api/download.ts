// A download under the browser's own control where no key is needed, else read here and handed over.

import { keyOf } from "./key.ts";
import { readBytes } from "./http.ts";
import { complain } from "./commands.ts";

export async function download(event: MouseEvent & { currentTarget: HTMLAnchorElement }, name: string): Promise<void> {
  if (!keyOf()) return;
  event.preventDefault();
  try {
    const blob = await readBytes(event.currentTarget.getAttribute("href") ?? "");
    const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  } catch (error) {
    complain(error);
  }
}
