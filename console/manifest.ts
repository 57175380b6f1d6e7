// Writes ``build.json`` beside the build: the digest of every source and of every shipped file, so that a test
// can tell without Node whether the shipped build is of these sources. And tells the service worker what there is.

import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Plugin } from "vite";

const SOURCES = ["src", "svelte.config.js", "public", "index.html", "manifest.ts", "package.json", "package-lock.json", "tsconfig.json", "vite.config.ts"];
const NAME = "build.json";
const BASE = "/console/";

// Before the service worker's own code, as it is shipped: what there is to keep.
function tellWorker(folder: string): void {
  const names = readdirSync(folder).filter((name) => /-[\w-]{8}\.(js|css)$/.test(name)).sort();
  const assets = names.map((name) => BASE + name);
  const worker = join(folder, "offline.js");
  const build = createHash("sha256").update(assets.join()).digest("hex").slice(0, 8);
  writeFileSync(worker, `const ASSETS=${JSON.stringify(assets)},BUILD="${build}";${readFileSync(worker, "utf8")}`);
}

function digests(root: string, names: string[]): Record<string, string> {
  const files = names.flatMap((name) => below(root, name)).sort();
  return Object.fromEntries(files.map((name) => [name, createHash("sha256").update(readFileSync(join(root, name))).digest("hex")]));
}

function below(root: string, name: string): string[] {
  try {
    return readdirSync(join(root, name)).flatMap((entry) => below(root, `${name}/${entry}`));
  } catch {
    return [name]; // a file, not a folder
  }
}

export function manifest(): Plugin {
  let root = "";
  let folder = "";
  return {
    name: "manifest",
    apply: "build",
    configResolved: (config) => {
      root = config.root;
      folder = join(config.root, config.build.outDir);
    },
    closeBundle: () => {
      tellWorker(folder);
      const shipped = readdirSync(folder).filter((name) => name !== NAME);
      const record = { sources: digests(root, SOURCES), shipped: digests(folder, shipped) };
      writeFileSync(join(folder, NAME), `${JSON.stringify(record, null, 1)}\n`);
    },
  };
}
