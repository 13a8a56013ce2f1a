// npm run bench [-- ROUNDS SECONDS] and npm run bench:waypoint [-- ROUNDS SECONDS [ROW]]: the benchmarks of the node
// proxy and of the waypoint, each beside its baselines in the same run.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { ensureMachine, orExplain, root } from './lib/ensure.mjs';
import { ensureEnvoy } from './lib/envoy.mjs';
import { enterWorld } from './lib/world.mjs';

await orExplain(async () => {
  const say = (text) => console.log(`· ${text}`);
  ensureMachine(say);
  await (await import('./bundle.mjs')).bundle();
  const [which, ...args] = process.argv.slice(2);
  if (which === 'bench-waypoint') ensureEnvoy(say);
  const script = join(root, 'dist/programs', `${which}.mjs`);
  const world = enterWorld('node', ['--enable-source-maps', script, root, ...args]);
  const bench = spawn(world.command, world.args, { cwd: root, stdio: 'inherit', env: world.env });
  process.exitCode = await new Promise((resolve) => bench.on('exit', (code) => resolve(code ?? 1)));
});
