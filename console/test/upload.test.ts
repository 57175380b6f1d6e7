// What is decided before a file is sent, and after a reload.

import { createHash, randomBytes } from "node:crypto";
import { expect, test } from "vitest";
import { check } from "../src/upload/check.ts";
import { itemOf, matched, nextRow, withOwnNames, type Item } from "../src/upload/item.ts";
import { Sha256 } from "../src/upload/sha256.ts";

const bytes = (text: string) => new TextEncoder().encode(text);

test.each([0, 1, 55, 56, 63, 64, 65, 119, 120, 1_000, 100_003])("the digest of %i bytes is that of Node's own", (length) => {
  const data = randomBytes(length);
  const sum = new Sha256();
  for (let at = 0; at < length; at += 37) sum.update(data.subarray(at, at + 37));
  expect(sum.hex()).toBe(createHash("sha256").update(data).digest("hex"));
});

test.each([
  ["a.xml", "<?xml version='1.0'?><a/>", null],
  ["a.csv", "a;b\n1;2\n", null],
  ["a.pdf", "%PDF-1.7", null],
  ["a.pdf", "hello", "type_mismatch"],
  ["a.png", "\u0000\u0001", "type_mismatch"],
  ["a.docx", "PK\u0003\u0004", "unsupported_type"],
  ["a.xml", "", "empty_file"],
  ["noname", "a,b\n", null],
] as const)("%s with %j is %s", (name, content, problem) => {
  const head = bytes(content);
  expect(check(name, head.length, head)).toBe(problem);
});

test("a name that is taken gets a number before its extension", () => {
  expect(withOwnNames(["a.xml", "b/a.xml", "a.xml", "a.xml"])).toEqual(["a.xml", "b/a.xml", "a (2).xml", "a (3).xml"]);
});

test("what is dropped again is recognised by its content, each file once", () => {
  const item = (name: string, sha256: string): Item => ({ ...itemOf(0, name, new File([], name)), sha256 });
  const missing = [item("a.xml", "1"), item("b.xml", "2"), item("copy of a.xml", "1")];
  const dropped = [item("renamed.xml", "2"), item("a.xml", "1"), item("other.xml", "9")];
  const { found, others } = matched(missing, dropped);
  expect(found.map(([one, other]) => [one.name, other.name])).toEqual([["b.xml", "renamed.xml"], ["a.xml", "a.xml"]]);
  expect(others.map((one) => one.name)).toEqual(["other.xml"]);
});

test("small files go in rows without gaps, a large one alone, and few of them one by one", () => {
  const item = (index: number, bytes = 1): Item => ({ ...itemOf(index, `${index}.csv`, new File([], "")), size: bytes, state: "ready" });
  const items = Array.from({ length: 500 }, (_, index) => item(index, index === 300 ? 2 ** 20 : 1));
  items[250]!.state = "cancelled";
  const rows: string[] = [];
  for (let row = nextRow(items); row; row = nextRow(items)) {
    rows.push(`${row.items[0]?.index}+${row.items.length}${row.together ? "" : " alone"}`);
    for (const one of row.items) one.state = "sent";
  }
  expect(rows).toEqual(["0+200", "200+50", "251+49", "300+1 alone", "301+199"]);
  // What is left of them after a reload goes as it would have gone.
  items[7]!.state = "ready";
  expect(nextRow(items)?.together).toBe(true);
  expect(nextRow([item(0), item(1)])).toEqual({ items: [item(0)], together: false });
});
