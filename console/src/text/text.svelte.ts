// Words in the reader's language; numbers and times as that language and the reader's zone write them.

import type { MoreWords } from "./en-more.ts";
import type { FirstWords } from "./en.ts";

type Words = FirstWords & Partial<MoreWords>;
export type Key = keyof Words;
export type Language = "es" | "en";
const NAME = "language";
const FIRST: Record<Language, () => Promise<FirstWords>> = {
  es: async () => (await import("./es.ts")).es,
  en: async () => (await import("./en.ts")).en,
};
const MORE: Record<Language, () => Promise<MoreWords>> = {
  es: async () => (await import("./es-more.ts")).esMore,
  en: async () => (await import("./en-more.ts")).enMore,
};

class Text {
  language = $state.raw<Language>("es");
  words = $state.raw<Words | undefined>(undefined);

  // More than the first page has been asked for.
  private others: Promise<unknown> | undefined;

  // A part of the page together with what it needs: words and icons.
  async more<T>(part: Promise<T>): Promise<T> {
    this.others ??= import("../app/more.ts").then(() => this.choose(this.language));
    await this.others;
    return part;
  }

  async choose(language: Language): Promise<void> {
    const [first, more] = await Promise.all([FIRST[language](), this.others ? MORE[language]() : {}]);
    this.words = { ...first, ...more };
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

// Making a formatter costs a hundred times what formatting does.
const numbers = new Map<string, Intl.NumberFormat>();

export function number(value: number, digits = 0): string {
  const name = text.language + digits;
  let format = numbers.get(name);
  if (!format) numbers.set(name, (format = new Intl.NumberFormat(text.language, { maximumFractionDigits: digits })));
  return format.format(value);
}
