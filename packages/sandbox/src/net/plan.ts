/** Addresses of the sandbox's network. Everything is private, and exists only inside the sandbox's own network namespace. */
export const network = {
  bridge: 'ambit0',
  controlPlane: { v4: '172.30.0.1', v6: 'fd00:172:30::1' },
  nodeSubnet: { v4: '172.30.0.0/24', v6: 'fd00:172:30::/64' },
  podSubnet: { v4: '10.244.0.0/16', v6: 'fd00:10:244::/48' },
  serviceSubnet: { v4: '10.96.0.0/16', v6: 'fd00:10:96::/112' },
  dnsService: { v4: '10.96.0.10', v6: 'fd00:10:96::a' },
  apiService: { v4: '10.96.0.1', v6: 'fd00:10:96::1' },
} as const;

export interface NodeAddresses {
  /** 1 for the first node. */
  readonly index: number;
  readonly v4: string;
  readonly v6: string;
  readonly podCidr4: string;
  readonly podCidr6: string;
  /** The node's own address on every pod link: the pods' gateway. */
  readonly gateway4: string;
  readonly gateway6: string;
}

const maxNodes = 200;

/** The addresses of the nth node, counted from 1. */
export function nodeAddresses(index: number): NodeAddresses {
  if (!Number.isInteger(index) || index < 1 || index > maxNodes) {
    throw new RangeError(`node number ${index} is not between 1 and ${maxNodes}`);
  }
  return {
    index,
    v4: `172.30.0.${10 + index}`,
    v6: `fd00:172:30::${10 + index}`,
    podCidr4: `10.244.${index}.0/24`,
    podCidr6: `fd00:10:244:${index}::/64`,
    gateway4: `10.244.${index}.1`,
    gateway6: `fd00:10:244:${index}::1`,
  };
}

/** Name of the control plane's end of a node's link. */
export function nodeLink(addresses: NodeAddresses): string {
  return `node${addresses.index}`;
}

/** `ip` commands for the control plane's side: bridge, links to the nodes, routes to their pods and to the services. */
export function controlPlaneCommands(
  nodes: readonly { readonly addresses: NodeAddresses; readonly netns: string }[],
  ipv6: boolean,
): string[] {
  const { bridge, controlPlane, serviceSubnet } = network;
  const lines = [
    `link add ${bridge} type bridge`,
    `addr add ${controlPlane.v4}/24 dev ${bridge}`,
    `link set ${bridge} up`,
  ];
  for (const { addresses, netns } of nodes) {
    const link = nodeLink(addresses);
    lines.push(
      `link add ${link} type veth peer name eth0 netns ${netns}`,
      `link set ${link} master ${bridge} up`,
      `route add ${addresses.podCidr4} via ${addresses.v4}`,
    );
  }
  // Service addresses are rewritten before they are routed; the route only lets the lookup before that succeed.
  lines.push(`route add ${serviceSubnet.v4} dev ${bridge}`);
  if (!ipv6) return lines;
  lines.push(
    `addr add ${controlPlane.v6}/64 dev ${bridge} nodad`,
    `route add ${serviceSubnet.v6} dev ${bridge}`,
  );
  for (const { addresses } of nodes)
    lines.push(`route add ${addresses.podCidr6} via ${addresses.v6}`);
  return lines;
}

/** `ip` commands inside one node's namespace. */
export function nodeCommands(
  self: NodeAddresses,
  others: readonly NodeAddresses[],
  ipv6: boolean,
): string[] {
  const lines = [
    'link set lo up',
    `addr add ${self.v4}/24 dev eth0`,
    'link set eth0 up',
    `route add default via ${network.controlPlane.v4}`,
    ...others.map((other) => `route add ${other.podCidr4} via ${other.v4}`),
    // A pod address that nobody has must end here and not turn in circles.
    `route add unreachable ${self.podCidr4}`,
  ];
  if (!ipv6) return lines;
  return [
    ...lines,
    `addr add ${self.v6}/64 dev eth0 nodad`,
    `route add default via ${network.controlPlane.v6}`,
    ...others.map((other) => `route add ${other.podCidr6} via ${other.v6}`),
    `route add unreachable ${self.podCidr6} dev lo`,
  ];
}
