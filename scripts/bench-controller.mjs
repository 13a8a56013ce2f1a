// npm run bench:controller [-- SERVICES PROXIES CHANGES]: the controller at scale, with its objects in a real API server:
// that of KUBECONFIG, which keeps them, or etcd and kube-apiserver alone.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { bundle } from './bundle.mjs';
import { orExplain, root } from './lib/ensure.mjs';

await orExplain(async () => {
  await bundle(['controller', 'bench-controller']);
  const script = join(root, 'dist/programs/bench-controller.mjs');
  const args = ['--enable-source-maps', script, root, ...process.argv.slice(2)];
  const { status } = spawnSync(process.execPath, args, { cwd: root, stdio: 'inherit' });
  process.exitCode = status ?? 1;
});
