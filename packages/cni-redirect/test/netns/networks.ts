import type { TestPod } from './world.ts';
import { makePod, podIn, sh } from './world.ts';

/**
 * A cluster's network of the shape that a common plugin makes, and the filter that its NetworkPolicy engine would put on
 * the node's side of a pod: new connections to the pod only to 15008, and from the kubelet.
 */
export interface Network {
  /** What its configuration has in the directory of the runtime. */
  readonly conflist: {
    readonly file: string;
    readonly content: {
      readonly type?: string;
      readonly plugins?: readonly { readonly type: string; readonly [key: string]: unknown }[];
      readonly [key: string]: unknown;
    };
  };
  pod(name: string, host: number): TestPod;
  /** Nodes' rules, as an argument of `nft -f -`. */
  policy(pod: TestPod): string;
  close(): void;
}

const probes = '169.254.7.127';
const firstPacket = 'tcp flags & (syn | ack) == syn';

function attach(name: string, address: string, script: string, link: string): TestPod {
  sh(`
    sysctl -qw net.ipv4.ip_forward=1 || true
    ip netns add ${name}
    ip link add ${link} type veth peer name eth0 netns ${name}
    ip -n ${name} link set lo up; ip link set ${link} up; ip -n ${name} link set eth0 up
    ${script}
  `);
  return podIn(name, link, { ip4: address, ip6: '::' });
}

const linkOf = (name: string): string => `v-${name}`.slice(0, 15);

/** A bridge as the plugins `bridge` and `flannel` make one: pods of a node are switched, not routed. */
function bridged(
  name: string,
  conflist: Network['conflist'],
  subnet: string,
  nat: string,
): Network {
  const bridge = `br-${name}`.slice(0, 15);
  sh(
    `ip link add ${bridge} type bridge; ip addr add ${subnet}.1/24 dev ${bridge}; ip link set ${bridge} up`,
  );
  if (nat !== '') sh(`nft '${nat}'`);
  return {
    conflist,
    pod: (pod, host) =>
      attach(
        pod,
        `${subnet}.${host}`,
        `ip link set ${linkOf(pod)} master ${bridge}
         ip -n ${pod} addr add ${subnet}.${host}/24 dev eth0
         ip -n ${pod} route add default via ${subnet}.1`,
        linkOf(pod),
      ),
    policy: ({ ip4 }) => `table bridge netpol {
      chain to-pods {
        type filter hook forward priority 0; policy accept;
        ip daddr ${ip4} ${firstPacket} tcp dport != 15008 drop
      }
    }`,
    close: () => sh(`ip link del ${bridge}; nft delete table ip flannel-nat 2>/dev/null || true`),
  };
}

/** Routed pods behind one gateway address that no interface has, as Calico and Cilium make them. */
function routed(conflist: Network['conflist'], net: string, policy: Network['policy']): Network {
  const gateway = '169.254.1.1';
  return {
    conflist,
    pod: (pod, host) =>
      attach(
        pod,
        `${net}.${host}`,
        `ip route add ${net}.${host}/32 dev ${linkOf(pod)}
         ip -n ${pod} addr add ${net}.${host}/32 dev eth0
         ip -n ${pod} route add ${gateway} dev eth0 scope link
         ip -n ${pod} route add default via ${gateway}
         ip -n ${pod} neigh add ${gateway} dev eth0 nud permanent lladdr $(ip -o link show dev ${linkOf(pod)} | sed -n 's/.*link.ether \\([^ ]*\\).*/\\1/p')
         ip addr show to ${net}.1 | grep -q ${net}.1 || ip addr add ${net}.1/32 dev lo`,
        linkOf(pod),
      ),
    policy,
    close: () => sh(`ip addr del ${net}.1/32 dev lo 2>/dev/null || true`),
  };
}

/** By connection tracking on the way through the node. */
const forwardPolicy: Network['policy'] = ({ ip4 }) => `table ip netpol {
  chain to-pods {
    type filter hook forward priority 0; policy accept;
    ct state established,related accept
    ip daddr ${ip4} tcp dport != 15008 drop
  }
}`;

/** On the link itself, below all of netfilter's other hooks, as eBPF programs are. */
const linkPolicy: Network['policy'] = ({ name }) => `table netdev netpol {
  chain to-pods {
    type filter hook egress device "${linkOf(name)}" priority 0; policy accept;
    ip saddr ${probes} accept
    ${firstPacket} tcp dport != 15008 drop
  }
}`;

/** By name, made when they are wanted. */
export const networks: readonly (readonly [string, () => Network])[] = [
  [
    'ptp',
    () => ({
      conflist: {
        file: '10-ptp.conf',
        content: { cniVersion: '0.4.0', name: 'ptp', type: 'ptp', mtu: 1400 },
      },
      pod: makePod,
      policy: forwardPolicy,
      close: () => undefined,
    }),
  ],
  [
    'bridge',
    () =>
      bridged(
        'bridge',
        {
          file: '10-bridge.conflist',
          content: {
            cniVersion: '1.0.0',
            name: 'bridge',
            plugins: [{ type: 'bridge', bridge: 'cni0', isGateway: true }, { type: 'portmap' }],
          },
        },
        '10.77.1',
        '',
      ),
  ],
  [
    'flannel',
    () =>
      bridged(
        'flannel',
        {
          file: '10-flannel.conflist',
          content: {
            name: 'cbr0',
            cniVersion: '0.3.1',
            plugins: [{ type: 'flannel', delegate: { hairpinMode: true } }, { type: 'portmap' }],
          },
        },
        '10.77.2',
        'table ip flannel-nat { chain post { type nat hook postrouting priority srcnat; policy accept; ip saddr 10.77.2.0/24 ip daddr != 10.77.2.0/24 masquerade; }; }',
      ),
  ],
  [
    'calico',
    () =>
      routed(
        {
          file: '10-calico.conflist',
          content: {
            name: 'k8s-pod-network',
            cniVersion: '0.3.1',
            plugins: [
              { type: 'calico', policy: { type: 'k8s' } },
              { type: 'bandwidth' },
              { type: 'portmap', snat: true },
            ],
          },
        },
        '10.77.3',
        forwardPolicy,
      ),
  ],
  [
    'cilium',
    () =>
      routed(
        {
          file: '05-cilium.conflist',
          content: { cniVersion: '0.3.1', name: 'cilium', plugins: [{ type: 'cilium-cni' }] },
        },
        '10.77.4',
        linkPolicy,
      ),
  ],
];
