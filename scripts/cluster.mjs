// A real Kubernetes of two nodes on this machine.
// usage: node scripts/cluster.mjs COMMAND
//
//   setup            builds what the cluster needs; 10 to 15 minutes the first time, seconds after
//   up               starts two nodes, or what of them does not run; prints the kubeconfig
//   load FILE …      gives images (archives as of `docker save`) to both nodes
//   status           which parts run; exit status 1 unless all do
//   down [NODE …]    stops the cluster, or these nodes; what it holds is kept for the next `up`
//   down --wipe      stops it and forgets what it held; tells what it left on the machine, if anything
//
// Root is needed. Binaries and state are in $AMBIT_CLUSTER_HOME (default ~/.cache/ambit-cluster); the API listens on
// 127.0.0.1:$AMBIT_CLUSTER_API_PORT (default 16443); AMBIT_CLUSTER_PROXY_MODE is iptables (default) or nftables. A second cluster needs
// an AMBIT_CLUSTER_NAME and a port of its own.
import { ensureLinux, ensurePackages, orExplain, Unmet } from './lib/ensure.mjs';
import { readOptions } from './lib/options.mjs';
import { makePhases } from './lib/phases.mjs';

const known = ['setup', 'up', 'load', 'status', 'down'];

await orExplain(async () => {
  const options = readOptions(import.meta.url, { flags: ['--wipe'] });
  if (options === undefined) return;
  const { flags } = options;
  const [command, ...names] = options.words;
  if (!known.includes(command)) {
    const why = command === undefined ? 'a command is missing' : `${command} is not a command`;
    throw new Unmet(`${why}; there are ${known.join(', ')}. --help says more.`);
  }
  if (flags.has('--wipe') && command !== 'down')
    throw new Unmet('--wipe is an option of down only.');
  ensureLinux();
  ensurePackages((text) => console.log(`· ${text}`));
  const commands = await import('../e2e/cluster/commands.mjs');
  const { home, paths } = await import('../e2e/cluster/layout.mjs');
  const { phase, total } = makePhases();
  if (command === 'setup') await commands.setup(phase);
  if (command === 'load') await commands.load(phase, names);
  if (command === 'status') process.exitCode = commands.status() ? 0 : 1;
  if (command === 'up') {
    await commands.up(phase);
    console.log(`\nready after ${total()} s:  export KUBECONFIG=${paths.kubeconfig}`);
  }
  if (command === 'down') {
    const traces = await commands.down(phase, { wipe: flags.has('--wipe'), only: names });
    for (const trace of traces) console.log(`left behind: ${trace}`);
    if (traces.length > 0) process.exitCode = 1;
    else if (names.length === 0) console.log(`nothing is left on the machine but ${home}`);
  }
});
