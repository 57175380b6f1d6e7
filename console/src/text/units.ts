// Amounts, lengths of time and whole dates, in the reader's language.

import { number, text } from "./text.svelte.ts";

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

export function fullTimeText(iso: string | number): string {
  return formatted(new Date(iso), { dateStyle: "medium", timeStyle: "long" }, "full");
}

const times = new Map<string, Intl.DateTimeFormat>();

function formatted(time: number | Date, style: Intl.DateTimeFormatOptions, name: string): string {
  const key = text.language + name;
  let format = times.get(key);
  if (!format) times.set(key, (format = new Intl.DateTimeFormat(text.language, style)));
  return format.format(time);
}

export function timeText(iso: string | number): string {
  const time = new Date(iso);
  const isToday = time.toDateString() === new Date().toDateString();
  const style: Intl.DateTimeFormatOptions = isToday
    ? { hour: "2-digit", minute: "2-digit", second: "2-digit" }
    : { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" };
  return formatted(time, style, isToday ? "clock" : "day");
}
