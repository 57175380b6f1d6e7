import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vitest/config";
import { manifest } from "./manifest.ts";

// The service worker has one address for ever; its content says what it is of.
const entry = ({ name }: { name: string }) => (name === "offline" ? "[name].js" : "[name]-[hash].js");
const names = { entryFileNames: entry, chunkFileNames: "[name]-[hash].js", assetFileNames: "[name]-[hash][extname]" };

// What a first visit needs is one chunk, which compresses best; parts of the runtime that only other screens use stay with them.
const FIRST = [
  /console\/src\/(main|live\/|text\/text|app\/(App|Pill|router|keys|theme|toasts|drop)|parts\/Icon|api\/(key|keep|http)|screens\/home\/Home)/,
  /svelte\/src\/(?!.*(bindings|custom-element|snippet|elements\/style|blocks\/(await|key|html)|store|legacy|transitions))/,
];
// What every further screen is made of; together it compresses better than as a dozen files.
const PARTS = /console\/src\/(parts\/(?!Icon)|text\/units|api\/(commands|download|refusal)|text\/es-refused|screens\/batches\/duration|app\/(more|newer|active|clock|Toasts|Dock|Palette|Help|Login)|screens\/Unknown)/;

// The gateway serves one flat folder under /console/, with a strict Content-Security-Policy: nothing inline.
export default defineConfig({
  base: "/console/",
  plugins: [svelte(), manifest()],
  build: {
    outDir: "../services/gateway/static",
    emptyOutDir: true,
    assetsDir: "",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    target: "es2022",
    rollupOptions: {
      input: { index: "index.html", offline: "src/offline.ts" },
      // Svelte's modules do nothing by being imported, except for its flags; so a screen's own parts stay with it.
      treeshake: { moduleSideEffects: (id) => !/svelte\/src\/(internal\/(client|shared)|reactivity)/.test(id) || id.includes("/flags/") },
      experimental: { lazyBarrel: true },
      output: { ...names, codeSplitting: { groups: [
            { name: "first", test: (id: string) => FIRST.some((one) => one.test(id)) && !id.includes(".css") },
            { name: "parts", test: PARTS },
          ] } },
    },
  },
  worker: { format: "es", rollupOptions: { output: names } },
  server: { proxy: { "/v1": process.env.TANDA_URL ?? "http://127.0.0.1:8420" } },
  test: { include: ["test/**/*.test.ts"], environment: "node" },
});
