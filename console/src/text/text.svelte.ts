// Words in the reader's language; numbers and times as that language and the reader's zone write them.

import type { Words } from "./en.ts";

export type Key = keyof Words;
export type Language = "es" | "en";
const NAME = "language";
const LOADERS: Record<Language, () => Promise<Words>> = {
  es: async () => (await import("./es.ts")).es,
  en: async () => (await import("./en.ts")).en,
};

class Text {
  language = $state<Language>("es");
  words = $state.raw<Words | undefined>(undefined);

  async choose(language: Language): Promise<void> {
    this.words = await LOADERS[language]();
    this.language = language;
    document.documentElement.lang = language;
  }

  async start(): Promise<void> {
    const chosen = localStorage.getItem(NAME);
    await this.choose(chosen === "en" || chosen === "es" ? chosen : preferred());
  }

  async switch(): Promise<void> {
    const next = this.language === "es" ? "en" : "es";
    localStorage.setItem(NAME, next);
    await this.choose(next);
  }
}

// The first of the browser's languages that we speak; Spanish where it speaks neither.
function preferred(): Language {
  for (const name of navigator.languages) {
    const language = name.slice(0, 2).toLowerCase();
    if (language === "es" || language === "en") return language;
  }
  return "es";
}

export const text = new Text();

// The words of a key; ``one|many`` is chosen by ``n``, and ``{name}`` is filled in.
export function t(key: Key, values: Record<string, string | number> = {}): string {
  let words: string = text.words?.[key] ?? key;
  if (words.includes("|")) {
    const [one = "", many = ""] = words.split("|");
    words = values.n === 1 ? one : many;
  }
  return words.replace(/\{(\w+)\}/g, (whole, name: string) => {
    const value = values[name];
    return value === undefined ? whole : typeof value === "number" ? number(value) : value;
  });
}

// Words whose key is made of a code that the server may add to; the code itself where we have none.
export function tCode(prefix: string, code: string): string {
  const words = text.words as Record<string, string> | undefined;
  return words?.[`${prefix}_${code}`] ?? code;
}

export function number(value: number, digits = 0): string {
  return new Intl.NumberFormat(text.language, { maximumFractionDigits: digits }).format(value);
}

export function percentText(value: number): string {
  return `${number(value, 1)} %`;
}

const UNITS = ["B", "kB", "MB", "GB", "TB"];
export function bytesText(value: number): string {
  let unit = 0;
  let left = value;
  while (left >= 1000 && unit < UNITS.length - 1) {
    left /= 1000;
    unit += 1;
  }
  return `${number(left, unit && left < 10 ? 1 : 0)} ${UNITS[unit]}`;
}

export function secondsText(seconds: number): string {
  if (seconds < 1) return `${number(seconds * 1000)} ms`;
  if (seconds < 10) return `${number(seconds, 1)} s`;
  if (seconds < 90) return `${number(seconds)} s`;
  if (seconds < 5400) return `${number(seconds / 60)} min`;
  if (seconds < 172_800) return `${number(seconds / 3600, 1)} h`;
  return `${number(seconds / 86_400, 1)} d`;
}

export function timeText(iso: string | number): string {
  const time = new Date(iso);
  const isToday = time.toDateString() === new Date().toDateString();
  const style: Intl.DateTimeFormatOptions = isToday
    ? { hour: "2-digit", minute: "2-digit", second: "2-digit" }
    : { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" };
  return new Intl.DateTimeFormat(text.language, style).format(time);
}

export function fullTimeText(iso: string | number): string {
  return new Intl.DateTimeFormat(text.language, { dateStyle: "medium", timeStyle: "long" }).format(new Date(iso));
}
