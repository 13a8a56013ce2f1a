// From nothing to a cluster with the mesh in it, for the scripts that run suites there.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { root, Unmet } from '../../scripts/lib/ensure.mjs';
import { makePhases } from '../../scripts/lib/phases.mjs';
import { pinnedNode } from '../../scripts/lib/toolchain.mjs';
import { down, load, setup, up } from './commands.mjs';
import { install } from './install.mjs';

const quiet = makePhases(() => {}).phase;
const imagesMs = 10 * 60_000;

/** Of an option that is given, the part is there already: `--no-setup`, `--no-images`. */
export async function standUp(phase, given) {
  if (!given.has('--no-setup')) await phase('setup', () => setup(quiet));
  await phase('cluster up', () => up(quiet));
  if (given.has('--no-images')) return;
  await phase('images', buildImages);
  const folder = join(root, 'dist/images');
  const files = readdirSync(folder).filter((name) => name.endsWith('.tar'));
  await phase('images loaded', () => loadImages(files.map((name) => join(folder, name))));
  await phase('Gateway API and the mesh, by helm', install);
}

export const loadImages = (files) => load(quiet, files);

/** @returns what it left on the machine */
export const takeDown = (phase) =>
  phase('cluster down', () => down(async (_text, work) => work(), { wipe: true, only: [] }));

async function buildImages() {
  const child = spawn(pinnedNode(), ['scripts/images.mjs'], {
    cwd: root,
    timeout: imagesMs,
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  const [status] = await once(child, 'exit');
  if (status !== 0) throw new Unmet('scripts/images.mjs failed; its messages are above.');
}
