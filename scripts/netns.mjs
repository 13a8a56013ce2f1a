// Runs a command in user, network, mount and pid namespaces of its own, so that whatever it
// builds (namespaces, links, rules) is gone when it ends and no packet can leave the machine.
import { spawn } from 'node:child_process';
import { enterWorld } from './lib/world.mjs';

const [command, ...args] = process.argv.slice(2);
if (command === undefined) {
  console.error('usage: node scripts/netns.mjs COMMAND [ARG ...]');
  process.exit(2);
}
const world = enterWorld(command, args);
const child = spawn(world.command, world.args, { stdio: 'inherit', env: world.env });
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal));
child.on('exit', (code, signal) => process.exit(code ?? (signal ? 1 : 0)));
