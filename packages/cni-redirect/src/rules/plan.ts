import type { IpAddress, IpFamily, Port } from '@ambit/api';
import {
  dnsPort,
  hbonePort,
  inboundPlaintextPort,
  outboundPort,
  probeSourceIpv4,
  probeSourceIpv6,
} from '@ambit/api';

/** What the rules of one pod depend on. */
export interface PodCapture {
  /** Families in which the pod has an address; rules hold for both in any case. */
  readonly families: readonly IpFamily[];
  /** Ports that the kubelet probes by TCP, HTTP or gRPC, or asks by hooks. */
  readonly probePorts: readonly Port[];
  /** False leaves inbound connections alone (`ambient.istio.io/bypass-inbound-capture`). */
  readonly captureInbound: boolean;
  /** True sends the pod's DNS questions to ztunnel (`ambient.istio.io/dns-capture`). */
  readonly captureDns: boolean;
  /** What becomes of traffic that a mesh of TCP cannot carry: UDP beside DNS, SCTP, anything else but ICMP. */
  readonly otherProtocols: 'pass' | 'drop';
}

export const defaultCapture: PodCapture = {
  families: ['IPv4'],
  probePorts: [],
  captureInbound: true,
  captureDns: false,
  otherProtocols: 'pass',
};

/**
 * The life of a pod's rules. `closed`: no connection begins, until capture stands. `captured`: all is redirected or
 * dropped. `draining`: nothing new is taken, connections that were taken go on.
 */
export type RulePhase = 'closed' | 'captured' | 'draining';

export interface RuleModel {
  readonly chains: readonly Chain[];
}

export type ChainKind =
  | 'raw-prerouting'
  | 'raw-output'
  | 'mangle-prerouting'
  | 'mangle-output'
  | 'nat-prerouting'
  | 'nat-output'
  | 'filter-input'
  | 'filter-postrouting';

export interface Chain {
  readonly kind: ChainKind;
  readonly rules: readonly Rule[];
}

export interface Rule {
  readonly match: readonly Match[];
  readonly verdict: Verdict;
}

export type Protocol = 'tcp' | 'icmp' | 'ipv6-icmp';

export type Match =
  | { readonly on: 'loopback'; readonly is: boolean; readonly side: 'in' | 'out' }
  | { readonly on: 'source'; readonly ip: IpAddress }
  /** The first packet of a connection: SYN without ACK. */
  | { readonly on: 'opening' }
  /** Of a connection that connection tracking has believed open for a while, and that has its own ports. */
  | { readonly on: 'established' }
  | { readonly on: 'protocol'; readonly is: boolean; readonly names: readonly Protocol[] }
  | {
      readonly on: 'port';
      readonly protocol: 'tcp' | 'udp';
      readonly side: 'source' | 'destination';
      readonly is: boolean;
      readonly ports: readonly number[];
    }
  | { readonly on: 'proxy-mark'; readonly is: boolean }
  | { readonly on: 'proxy-connection' };

export type Verdict =
  | { readonly do: 'accept' }
  | { readonly do: 'drop' }
  /** Ends the connection for its client and for connection tracking. */
  | { readonly do: 'reset' }
  | { readonly do: 'redirect'; readonly port: number }
  /** Remembers that the proxy opened this connection, with an address that is not its own. */
  | { readonly do: 'mark-connection' }
  /** Sends an answer to the proxy instead of to the address the proxy borrowed. */
  | { readonly do: 'route-to-proxy' }
  | { readonly do: 'conntrack-zone'; readonly zone: number }
  /** Packets of the one who opened the connection alone are looked up in the zone; answers in the common one. */
  | { readonly do: 'opener-zone'; readonly zone: number };

const accept: Verdict = { do: 'accept' };
const drop: Verdict = { do: 'drop' };
const opening: Match = { on: 'opening' };
const notProxy: Match = { on: 'proxy-mark', is: false };
const byProxy: Match = { on: 'proxy-mark', is: true };
const fromOutside: Match = { on: 'loopback', is: false, side: 'in' };
const toOutside: Match = { on: 'loopback', is: false, side: 'out' };
const probeSources = [probeSourceIpv4 as IpAddress, probeSourceIpv6 as IpAddress];
const dns = 53;
/** Upstream questions of the DNS proxy have a conntrack zone of their own, apart from the captured ones. */
const dnsZone = 1;
/**
 * The proxy connects to the application with a client's address and a port that may be one of the client's own
 * connections to the same pod. In the common zone the kernel would take the two for one connection and neither would
 * go on; in one of their own it sees that they are two, and gives the later one another port where answers would meet.
 */
const deliveryZone = 2;

/** Decides the rules of a pod in one phase of its life. */
export function planPodRules(capture: PodCapture, phase: RulePhase): RuleModel {
  const chains: Chain[] = [
    ...(capture.captureDns ? [dnsAnswers] : []),
    {
      kind: 'raw-output',
      rules: [
        ...(capture.captureDns ? [dnsQuestions] : []),
        {
          match: [{ on: 'loopback', is: true, side: 'out' }, byProxy],
          verdict: { do: 'opener-zone', zone: deliveryZone },
        },
      ],
    },
    {
      // A mark counts on loopback only: nobody outside can have the proxy's mark.
      kind: 'mangle-prerouting',
      rules: [
        {
          match: [{ on: 'loopback', is: true, side: 'in' }, byProxy],
          verdict: { do: 'mark-connection' },
        },
      ],
    },
    {
      kind: 'mangle-output',
      rules: [{ match: [{ on: 'proxy-connection' }, notProxy], verdict: { do: 'route-to-proxy' } }],
    },
    // Empty NAT chains keep the translation of open connections at work.
    { kind: 'nat-prerouting', rules: phase === 'captured' ? inboundRedirect(capture) : [] },
    { kind: 'nat-output', rules: phase === 'captured' ? outboundRedirect(capture) : [] },
  ];
  if (phase !== 'draining') {
    chains.push({ kind: 'filter-input', rules: inboundFilter(capture, phase) });
    chains.push({ kind: 'filter-postrouting', rules: outboundFilter(capture) });
  }
  return { chains };
}

const toDnsZone: Verdict = { do: 'conntrack-zone', zone: dnsZone };
const dnsAnswers: Chain = {
  kind: 'raw-prerouting',
  rules: [{ match: [fromOutside, port('udp', 'source', [dns])], verdict: toDnsZone }],
};
const dnsQuestions: Rule = {
  match: [byProxy, port('udp', 'destination', [dns])],
  verdict: toDnsZone,
};

function inboundRedirect(capture: PodCapture): Rule[] {
  if (!capture.captureInbound) return [];
  return [
    { match: [{ on: 'loopback', is: true, side: 'in' }], verdict: accept },
    ...probeExemption(capture),
    { match: [port('tcp', 'destination', [hbonePort])], verdict: accept },
    { match: [opening], verdict: { do: 'redirect', port: inboundPlaintextPort } },
  ];
}

function outboundRedirect(capture: PodCapture): Rule[] {
  const loopback: Rule = {
    match: [{ on: 'loopback', is: true, side: 'out' }],
    verdict: accept,
  };
  const toDnsProxy: Verdict = { do: 'redirect', port: dnsPort };
  return [
    { match: [byProxy], verdict: accept },
    ...(capture.captureDns
      ? [
          { match: [port('udp', 'destination', [dns])], verdict: toDnsProxy },
          { match: [opening, port('tcp', 'destination', [dns])], verdict: toDnsProxy },
        ]
      : []),
    loopback,
    { match: [opening], verdict: { do: 'redirect', port: outboundPort } },
  ];
}

/** What was not redirected, for whatever reason, does not arrive. */
function inboundFilter(capture: PodCapture, phase: RulePhase): Rule[] {
  const exempt = phase === 'captured' ? probeExemption(capture) : [];
  return [
    { match: [{ on: 'loopback', is: true, side: 'in' }], verdict: accept },
    ...exempt,
    // The kubelet's address without a declared port is a forged one.
    ...probeSources.map((ip): Rule => ({ match: [{ on: 'source', ip }], verdict: drop })),
    ...(capture.captureInbound ? unredirectedInbound(phase) : []),
    ...otherProtocols(capture, 'in'),
  ];
}

/**
 * The client of a connection that ended without a word, as when its node crashed, may come from the same port again. The
 * kernel takes that for the old connection and does not redirect it: a reset ends the old one, and later ones are redirected.
 */
function unredirectedInbound(phase: RulePhase): Rule[] {
  if (phase !== 'captured') return [{ match: [fromOutside, opening], verdict: drop }];
  const past = port('tcp', 'destination', [inboundPlaintextPort, hbonePort], false);
  return [
    { match: [fromOutside, opening, past, { on: 'established' }], verdict: { do: 'reset' } },
    { match: [fromOutside, opening, past], verdict: drop },
  ];
}

/** Judged after routing, when redirected packets are on loopback: what leaves the pod is the proxy's. */
function outboundFilter(capture: PodCapture): Rule[] {
  return [
    { match: [toOutside, opening, notProxy], verdict: drop },
    ...otherProtocols(capture, 'out'),
  ];
}

function otherProtocols(capture: PodCapture, side: 'in' | 'out'): Rule[] {
  if (capture.otherProtocols === 'pass') return [];
  const carried: readonly Protocol[] = ['tcp', 'icmp', 'ipv6-icmp'];
  return [
    {
      match: [port('udp', side === 'in' ? 'source' : 'destination', [dns])],
      verdict: accept,
    },
    {
      match: [
        side === 'in' ? fromOutside : toOutside,
        { on: 'protocol', is: false, names: carried },
      ],
      verdict: drop,
    },
  ];
}

function probeExemption({ probePorts }: PodCapture): Rule[] {
  if (probePorts.length === 0) return [];
  const ports = [...new Set(probePorts)].sort((a, b) => a - b);
  return probeSources.map((ip) => ({
    match: [{ on: 'source', ip }, port('tcp', 'destination', ports)],
    verdict: accept,
  }));
}

function port(
  protocol: 'tcp' | 'udp',
  side: 'source' | 'destination',
  ports: readonly number[],
  is = true,
): Match {
  return { on: 'port', protocol, side, is, ports };
}
