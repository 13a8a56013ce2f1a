// A real Kubernetes of two nodes on this machine; `node scripts/cluster.mjs help` says how.
import { ensureLinux, ensurePackages, orExplain } from './lib/ensure.mjs';
import { makePhases } from './lib/phases.mjs';

const help = `usage: node scripts/cluster.mjs COMMAND

  setup            builds what the cluster needs; 10 to 15 minutes the first time, seconds after
  up               starts two nodes, or what of them does not run; prints the kubeconfig
  load FILE …      gives images (archives as of \`docker save\`) to both nodes
  status           which parts run; exit status 1 unless all do
  down [NODE …]    stops the cluster, or these nodes; what it holds is kept for the next \`up\`
  down --wipe      stops it and forgets what it held; tells what it left on the machine, if anything

Root is needed. Binaries and state are in $AMBIT_CLUSTER_HOME (default ~/.cache/ambit-cluster); the API listens on
127.0.0.1:$AMBIT_CLUSTER_API_PORT (default 16443); AMBIT_CLUSTER_PROXY_MODE is iptables (default) or nftables. A second cluster needs
an AMBIT_CLUSTER_NAME and a port of its own.`;

const [command, ...words] = process.argv.slice(2);
const flags = words.filter((word) => word.startsWith('--'));
const names = words.filter((word) => !word.startsWith('--'));

await orExplain(async () => {
  if (
    !['setup', 'up', 'load', 'status', 'down'].includes(command) ||
    flags.some((one) => one !== '--wipe')
  ) {
    console.log(help);
    process.exitCode = ['help', '--help'].includes(command) ? 0 : 2;
    return;
  }
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
    const traces = await commands.down(phase, { wipe: flags.includes('--wipe'), only: names });
    for (const trace of traces) console.log(`left behind: ${trace}`);
    if (traces.length > 0) process.exitCode = 1;
    else if (names.length === 0) console.log(`nothing is left on the machine but ${home}`);
  }
});
