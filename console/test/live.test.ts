// The stream's parser, and where an address leads.

import { expect, test } from "vitest";
import { Parser, type Message } from "../src/live/sse.ts";

test("messages are whole however the stream is cut", () => {
  const stream = "retry: 1000\nid: 3\nevent: snapshot\ndata: {\"seq\":3}\n\n: ping\n\nid: 4\nevent: FileQueued\ndata: {\"a\":\"\u00f1\"}\n\n";
  for (let size = 1; size < stream.length; size += 5) {
    const taken: Message[] = [];
    const parser = new Parser((message) => taken.push(message));
    for (let at = 0; at < stream.length; at += size) parser.feed(stream.slice(at, at + size));
    expect(taken).toEqual([
      { id: "3", event: "snapshot", data: "{\"seq\":3}" },
      { id: "4", event: "FileQueued", data: "{\"a\":\"\u00f1\"}" },
    ]);
  }
});
