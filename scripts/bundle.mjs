// Bundles each program into one file under dist/programs, ready to run on the pinned Node.
import { build } from 'esbuild';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const programs = {
  controller: 'packages/controller/src/main.ts',
  uninstall: 'packages/controller/src/uninstall/main.ts',
  ztunnel: 'packages/ztunnel/src/main.ts',
  waypoint: 'packages/waypoint/src/main.ts',
  ambitctl: 'packages/cli/src/main.ts',
  'cni-agent': 'packages/cni-redirect/src/agent/main.ts',
  'cni-plugin': 'packages/cni-redirect/src/plugin/main.ts',
  sandbox: 'packages/sandbox/src/main.ts',
  'sandbox-ptp': 'packages/sandbox/src/cni/main.ts',
  bench: 'bench/src/main.ts',
  'bench-waypoint': 'bench/src/http/main.ts',
  'bench-controller': 'bench/src/controller/main.ts',
  'bench-http-backend': 'bench/src/http/backend.ts',
  'bench-http-plain': 'bench/src/http/plain.ts',
  'bench-http-load': 'bench/src/http/load-main.ts',
};

/** Bundles the named programs, or all of them. */
export async function bundle(names = Object.keys(programs)) {
  await build({
    entryPoints: Object.fromEntries(
      Object.entries(programs).filter(
        ([name, file]) => names.includes(name) && existsSync(join(root, file)),
      ),
    ),
    absWorkingDir: root,
    outdir: 'dist/programs',
    outExtension: { '.js': '.mjs' },
    bundle: true,
    format: 'esm',
    platform: 'node',
    target: 'node26',
    conditions: ['mesh-source'],
    sourcemap: 'linked',
    // Nothing is minified, so names stay as they are; `keepNames` would wrap every closure of every request.
    external: ['koffi'],
    logLevel: 'warning',
    inject: ['scripts/lib/globals.mjs'],
    // CommonJS dependencies inside an ES module bundle still call require().
    banner: {
      js: "import { createRequire as createRequireOfBundle } from 'node:module'; const require = createRequireOfBundle(import.meta.url);",
    },
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await bundle();
