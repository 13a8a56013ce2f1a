// npm run -s ambitctl -- …: the command line from this clone.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { ensurePackages, orExplain, root } from './lib/ensure.mjs';
import { pinnedNode } from './lib/toolchain.mjs';

await orExplain(async () => {
  ensurePackages((text) => console.error(`· ${text}`));
  const program = join(root, 'dist/programs/ambitctl.mjs');
  if (!existsSync(program)) await (await import('./bundle.mjs')).bundle();
  const { status } = spawnSync(pinnedNode(), ['--no-warnings', program, ...process.argv.slice(2)], {
    stdio: 'inherit',
    cwd: process.env.INIT_CWD ?? process.cwd(),
  });
  process.exitCode = status ?? 1;
});
