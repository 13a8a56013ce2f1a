import { pinnedNode } from './toolchain.mjs';

const prepare = [
  'set -e',
  'mount -t tmpfs -o mode=755 tmpfs /run',
  'mkdir -p /run/netns',
  'ip link set lo up',
  // The test ranges exist only inside; a bug must not find a route out even here.
  'for range in 10.0.0.0/8 172.16.0.0/12 192.168.0.0/16; do ip route add blackhole $range metric 4096; done',
  'exec "$@"',
].join('\n');

/** The `unshare` call that runs `command` in a world of its own, as root or as an ordinary user. */
export function enterWorld(command, args, env = process.env) {
  const asUser = process.getuid() === 0 ? [] : ['--user', '--map-root-user'];
  const namespaces = ['--net', '--mount', '--pid', '--fork', '--mount-proc', '--kill-child'];
  const program = command === 'node' ? pinnedNode() : command;
  return {
    command: 'unshare',
    args: [...asUser, ...namespaces, '--', 'sh', '-c', prepare, 'world', program, ...args],
    env: { ...env, PATH: `${env.PATH ?? ''}:/usr/sbin:/sbin` },
  };
}
