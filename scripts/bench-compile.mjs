// npm run bench:compile [-- ROUNDS [KIND]]: what one change costs the compiler of the controller, beside few and many objects.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { bundle } from './bundle.mjs';
import { orExplain, root } from './lib/ensure.mjs';

await orExplain(async () => {
  await bundle(['bench-compile']);
  const script = join(root, 'dist/programs/bench-compile.mjs');
  const args = ['--enable-source-maps', script, ...process.argv.slice(2)];
  const { status } = spawnSync(process.execPath, args, { cwd: root, stdio: 'inherit' });
  process.exitCode = status ?? 1;
});
