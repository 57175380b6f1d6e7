import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vitest/config";
import { manifest } from "./manifest.ts";

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
    rollupOptions: { output: { entryFileNames: "[name]-[hash].js", chunkFileNames: "[name]-[hash].js", assetFileNames: "[name]-[hash][extname]" } },
  },
  worker: { format: "es", rollupOptions: { output: { entryFileNames: "[name]-[hash].js", chunkFileNames: "[name]-[hash].js" } } },
  server: { proxy: { "/v1": process.env.TANDA_URL ?? "http://127.0.0.1:8420" } },
  test: { include: ["test/**/*.test.ts"], environment: "node" },
});
