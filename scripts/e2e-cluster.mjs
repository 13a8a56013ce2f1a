// npm run e2e:cluster [-- OPTION … PATH-PART …]: the acceptance suites in a real Kubernetes of two nodes on this
// machine, with the mesh installed by helm from images that are built here.
//   -t NAME       only tests whose name contains NAME
//   --keep        leave the cluster up at the end
//   --no-setup    what the cluster needs is there
//   --no-images   images and mesh are in the cluster already (after --keep)
// Ends with the seconds of each phase and `N passed, N failed`.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { ensureLinux, ensurePackages, orExplain, root } from './lib/ensure.mjs';
import { readOptions } from './lib/options.mjs';
import { makePhases } from './lib/phases.mjs';
import { pinnedNode } from './lib/toolchain.mjs';

const own = { flags: ['--keep', '--no-setup', '--no-images'], valued: ['-t'] };

await orExplain(async () => {
  const options = readOptions(import.meta.url, own);
  if (options === undefined) return;
  const { flags: given, values, words } = options;
  const named = values.has('-t') ? ['-t', values.get('-t')] : [];
  ensureLinux();
  ensurePackages((text) => console.log(`· ${text}`));
  const { standUp, takeDown } = await import('../e2e/cluster/stand-up.mjs');
  const { uninstall } = await import('../e2e/cluster/install.mjs');
  const { phase, times, total } = makePhases();
  const summary = { line: '0 passed, 1 failed', ok: false };
  const traces = [];
  const interrupted = once(process, ['SIGINT', 'SIGTERM']);
  try {
    await standUp(phase, given);
    await phase('suites', async () => {
      const { line, status } = await Promise.race([suites([...named, ...words]), interrupted]);
      Object.assign(summary, { line, ok: status === 0 });
    });
    if (!given.has('--keep')) traces.push(...(await phase('uninstalled', uninstall)));
  } finally {
    if (!given.has('--keep')) await leave(() => takeDown(phase), summary, traces);
  }
  console.log(`\n${'seconds'.padStart(8)}  phase`);
  for (const { text, seconds } of times) console.log(`${seconds.padStart(8)}  ${text}`);
  console.log(`${total().padStart(8)}  in all\n${summary.line}`);
  process.exitCode = summary.ok ? 0 : 1;
});

/** Takes the cluster down; what the mesh left in it, or it on the machine, counts as a failure. */
async function leave(down, summary, traces) {
  traces.push(...(await down()));
  for (const trace of traces) console.log(`left behind: ${trace}`);
  const counted = /^(\d+) passed, (\d+) failed(.*)$/.exec(summary.line) ?? [];
  const [, passed = '0', failed = '0', rest = ''] = counted;
  const clean = traces.length === 0;
  summary.line = `${Number(passed) + (clean ? 1 : 0)} passed, ${Number(failed) + (clean ? 0 : 1)} failed${rest}`;
  summary.ok &&= clean;
}

/** The suites run in the control plane's network, from which pods are reached by their addresses. */
async function suites(words) {
  const { controlPlane, name, paths } = await import('../e2e/cluster/layout.mjs');
  return command(
    'nsenter',
    [`--net=/run/netns/${controlPlane.netns}`, pinnedNode(), 'scripts/e2e.mjs', ...words],
    { KUBECONFIG: join(paths.pki, 'inside.kubeconfig'), AMBIT_CLUSTER_NAME: name },
  );
}

/** Runs a command whose output is shown, and of which the last counting line is kept. */
function command(program, args, env) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      cwd: root,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let line = '0 passed, 1 failed';
    let rest = '';
    child.stdout.setEncoding('utf8');
    child.stdout.on('data', (text) => {
      process.stdout.write(text);
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      line = lines.findLast((one) => /^\d+ passed, \d+ failed/.test(one)) ?? line;
    });
    child.on('error', reject);
    child.on('exit', (status) => resolve({ status, line }));
  });
}

/** Ends the suites on the first signal, so that the cluster is taken down. */
function once(emitter, signals) {
  return new Promise((resolve) => {
    for (const signal of signals)
      emitter.once(signal, () => resolve({ status: 1, line: '0 passed, 1 failed' }));
  });
}
