// Why the API refused something, in the reader's language: its own sentence is English, and names the limits.

import { text } from "../text/text.svelte.ts";
import { esRefused } from "../text/es-refused.ts";
import { ApiError } from "./http.ts";

export function refusalText(error: unknown): string {
  if (!(error instanceof ApiError)) return error instanceof Error ? error.message : String(error);
  const words = text.language === "es" ? esRefused[error.code] : undefined;
  return words ? `${words} (${error.message})` : error.message;
}
