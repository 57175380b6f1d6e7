// Server-sent events out of a stream of text; fetch instead of EventSource, since that cannot send a key.

export interface Message {
  // The position that has been told as a whole; of several events at one only the last has it.
  id: string;
  event: string;
  data: string;
}

// Feed it pieces of text; it calls back once for each whole message.
export class Parser {
  private rest = "";
  private id = "";

  constructor(private readonly take: (message: Message) => void) {}

  feed(text: string): void {
    const blocks = (this.rest + text).split("\n\n");
    this.rest = blocks.pop() ?? "";
    for (const block of blocks) this.block(block);
  }

  private block(block: string): void {
    let event = "message";
    const data: string[] = [];
    for (const line of block.split("\n")) {
      if (line.startsWith("data: ")) data.push(line.slice(6));
      else if (line.startsWith("event: ")) event = line.slice(7);
      else if (line.startsWith("id: ")) this.id = line.slice(4);
    }
    if (data.length) this.take({ id: this.id, event, data: data.join("\n") });
  }
}
