// Bundles what lies in src/ into the folder given, with hashes in the names, and says in manifest.json which is which.
// Called by `mirrorneuron/assets.py`, which knows when there is something to do.
import { build } from "esbuild";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { gzipSync } from "node:zlib";

// React 19 by default. Preact saves 58 KB gzipped but is not what React Flow is tested with: to try it, add
// preact to package.json and set this to true.
const PREACT = false;
const ENTRIES = { graph: "src/graph/main.jsx", yaml: "src/yaml/main.js" };

const here = import.meta.dirname;
const out = path.resolve(process.argv[2]);
const entryPoints = Object.fromEntries(Object.entries(ENTRIES).filter(([, file]) => existsSync(path.join(here, file))));
const react = { react: "preact/compat", "react-dom": "preact/compat", "react/jsx-runtime": "preact/jsx-runtime" };

const result = await build({
  absWorkingDir: here,
  entryPoints,
  outdir: out,
  entryNames: "[name]-[hash]",
  chunkNames: "chunk-[hash]",
  bundle: true,
  splitting: true,
  format: "esm",
  target: ["es2022"],
  minify: true,
  metafile: true,
  legalComments: "linked",
  jsx: "automatic",
  define: { "process.env.NODE_ENV": '"production"' },
  alias: PREACT ? react : {},
  logLevel: "warning",
});

const manifest = {};
for (const [file, facts] of Object.entries(result.metafile.outputs)) {
  const name = path.basename(file);
  const entry = Object.keys(entryPoints).find((key) => facts.entryPoint === ENTRIES[key]);
  if (entry) manifest[entry] = { js: name, ...(facts.cssBundle ? { css: path.basename(facts.cssBundle) } : {}) };
  if (/\.(js|css)$/.test(name)) {
    const full = path.join(out, name);
    writeFileSync(`${full}.gz`, gzipSync(readFileSync(full), { level: 9 }));
  }
}
writeFileSync(path.join(out, "manifest.json"), `${JSON.stringify(manifest, null, 2)}\n`);
