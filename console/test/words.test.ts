// Both languages say everything, and fill in the same places.

import { expect, test } from "vitest";
import { enMore } from "../src/text/en-more.ts";
import { en as enFirst } from "../src/text/en.ts";
import { esMore } from "../src/text/es-more.ts";
import { es as esFirst } from "../src/text/es.ts";

const en = { ...enFirst, ...enMore };
const es = { ...esFirst, ...esMore };

const places = (words: string) => [...words.matchAll(/\{(\w+)\}/g)].map((match) => match[1]).sort();
const keys = Object.keys(en) as (keyof typeof en)[];

test("the languages have the same keys", () => {
  expect(Object.keys(es).sort()).toEqual(Object.keys(en).sort());
});

test.each(keys)("%s", (key) => {
  for (const words of [en[key], es[key]]) {
    expect(words.trim()).not.toBe("");
    const forms = words.split("|");
    expect(forms.length).toBeLessThanOrEqual(2);
  }
  expect(new Set(places(es[key]))).toEqual(new Set(places(en[key])));
  expect(es[key].includes("|")).toBe(en[key].includes("|"));
});
