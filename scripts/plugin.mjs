// Makes dist/plugin: the CNI plugin as one executable with its libraries beside it, for hosts that have neither Node nor
// glibc nor a shell: `node scripts/plugin.mjs [DIRECTORY]`. The agent names the loader when it installs it, since only there is the host's directory known.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { bundle } from './bundle.mjs';
import { continueInPinnedNode, pinnedNode } from './lib/toolchain.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const name = 'ambit-cni';

/** Builds the executable from dist/programs/cni-plugin.mjs; tells where it is. */
export async function buildPlugin(out = join(root, 'dist/plugin')) {
  const elf = await import('../packages/cni-redirect/src/install/elf.ts');
  const node = realpathSync(pinnedNode());
  const libraries = librariesOf(node, elf);
  const directory = `${name}.lib-${digest(libraries.map(({ file }) => file))}`;
  rmSync(out, { recursive: true, force: true });
  mkdirSync(join(out, directory), { recursive: true });
  for (const { soname, file } of libraries) copyFileSync(file, join(out, directory, soname));
  const executable = join(out, name);
  const text = elf.withLibraryPath(singleExecutable(node), `$ORIGIN/${directory}`);
  writeFileSync(executable, text, { mode: 0o755 });
  return { executable, libraries: join(out, directory) };
}

function singleExecutable(node) {
  const work = mkdtempSync(join(tmpdir(), 'ambit-plugin-'));
  try {
    const output = join(work, name);
    const config = {
      main: join(root, 'dist/programs/cni-plugin.mjs'),
      mainFormat: 'module',
      output,
      disableExperimentalSEAWarning: true,
      // The environment of a container runtime must not change what the plugin does.
      execArgvExtension: 'none',
    };
    writeFileSync(join(work, 'sea.json'), JSON.stringify(config));
    execFileSync(node, ['--build-sea', join(work, 'sea.json')], { stdio: 'pipe' });
    return readFileSync(output);
  } finally {
    rmSync(work, { recursive: true });
  }
}

/** The shared libraries of an executable and its loader, by the names that the loader looks for. */
function librariesOf(executable, { interpreterOf, readerOf }) {
  const found = new Map();
  for (const line of execFileSync('ldd', [executable], { encoding: 'utf8' }).split('\n')) {
    const [, soname, file] = /^\s*(\S+) => (\/\S+) \(0x/.exec(line) ?? [];
    if (file !== undefined) found.set(soname, realpathSync(file));
  }
  const loader = interpreterOf(readerOf(readFileSync(executable)));
  found.set(basename(loader), realpathSync(loader));
  return [...found].sort().map(([soname, file]) => ({ soname, file }));
}

function digest(files) {
  const hash = createHash('sha256');
  for (const file of files) hash.update(readFileSync(file));
  return hash.digest('hex').slice(0, 12);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  continueInPinnedNode();
  await bundle(['cni-plugin']);
  const { executable, libraries } = await buildPlugin(process.argv[2]);
  process.stdout.write(`${executable}\n${libraries}\n`);
}
