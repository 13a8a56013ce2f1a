// Bundles each program into one file under dist/programs, ready to run on the pinned Node.
import { build } from 'esbuild';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
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
  'cni-agent-has-node': 'packages/cni-redirect/src/agent/has-node/main.ts',
  'cni-plugin': 'packages/cni-redirect/src/plugin/main.ts',
  sandbox: 'packages/sandbox/src/main.ts',
  'sandbox-ptp': 'packages/sandbox/src/cni/main.ts',
  bench: 'bench/src/main.ts',
  'bench-waypoint': 'bench/src/http/main.ts',
  'bench-controller': 'bench/src/controller/main.ts',
  'bench-compile': 'bench/src/compile/main.ts',
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
  for (const name of names) makeAscii(join(root, 'dist/programs', `${name}.mjs`));
}

/**
 * esbuild escapes what is not ASCII in texts, not in comments and regular expressions; one such character makes V8 keep
 * the whole program at two bytes a character.
 */
function makeAscii(file) {
  if (!existsSync(file)) return;
  const text = readFileSync(file, 'utf8');
  const ascii = text.replace(
    /[^\0-\x7f]/g,
    (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
  if (ascii !== text) writeFileSync(file, ascii);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await bundle();
