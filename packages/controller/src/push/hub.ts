import type {
  CertificateRefused,
  CertificateResponse,
  ControllerFrame,
  ReportedProblem,
  Upsert,
} from '@ambit/api';
import { frameSchema, maxFrameBytes } from '@ambit/api';

import type { CertificateServer } from '../ca/server.ts';
import type { NodeProxy } from '../ca/node-authorizer.ts';
import type { Log } from '../log.ts';
import type { DebounceTimes } from './debounce.ts';
import { createDebounce } from './debounce.ts';
import { decodeProxyFrame } from './frames.ts';
import { ProxyReports } from './reports.ts';
import { Session } from './session.ts';
import type { SnapshotState } from './state.ts';
import { visibleTo } from './visible.ts';

/** One proxy's connection, whatever carries it. */
export interface Channel {
  send(frame: ControllerFrame): void;
  /** Ends it and tells the proxy why. */
  close(reason: string): void;
}

/** A proxy that has come in and whose token is good. */
export interface Arrival {
  readonly token: string;
  readonly proxy: NodeProxy;
  readonly channel: Channel;
}

/** What the carrier reports of a connection. */
export interface Connection {
  frame(data: string): void;
  closed(): void;
}

export interface HubOptions {
  readonly state: SnapshotState;
  /** Brings the compiled state up to date; called before every push. */
  readonly flush: () => void;
  readonly certificates: CertificateServer;
  readonly debounce: DebounceTimes;
  readonly log: Log;
  readonly onRejected?: (type: string) => void;
  readonly onPush?: () => void;
  /** What a proxy now reports of resources; nothing when it is gone. */
  readonly onReport?: (proxy: string, problems: readonly ReportedProblem[]) => void;
  readonly helloDeadlineMs?: number;
}

export interface ProxyView {
  readonly node: string;
  readonly pod: string;
  readonly stage: string;
  readonly lastAcked: number;
  readonly nacked: ReadonlyMap<string, string>;
}

/** All proxies that are connected, and what they are told. */
export interface Hub {
  connect(arrival: Arrival): Connection;
  /** Something that is compiled into the snapshot has changed. */
  changed(): void;
  /** All sources are known: proxies that wait may be told. */
  synced(): void;
  proxies(): readonly ProxyView[];
  close(): void;
}

interface Peer {
  readonly arrival: Arrival;
  readonly reports: ProxyReports;
  readonly session: Session;
  readonly deadline: NodeJS.Timeout;
}

const defaultHelloDeadlineMs = 10_000;

export function createHub(options: HubOptions): Hub {
  const peers = new Set<Peer>();
  let arrivals = 0;
  let isSynced = false;
  const push = (): void => {
    options.flush();
    const changed = options.state.takeChanged();
    if (!isSynced || changed.size === 0) return;
    options.onPush?.();
    for (const { session } of peers) session.changed(changed);
  };
  const debounce = createDebounce(push, options.debounce);
  const refuse = (peer: Peer, reason: string): void => {
    options.log.warn(
      describe(peer.arrival, { reason }),
      'proxy disconnected: it broke the protocol',
    );
    peer.arrival.channel.close(reason);
  };
  return {
    connect: (arrival) => {
      arrivals += 1;
      const peer: Peer = {
        arrival,
        reports: reportsOf(arrival, arrivals, options),
        session: newSession(arrival, options),
        deadline: setTimeout(
          () => refuse(peer, 'no hello in time'),
          options.helloDeadlineMs ?? defaultHelloDeadlineMs,
        ),
      };
      peers.add(peer);
      const certificates = options.certificates.connect(arrival.token);
      return {
        frame: (data) => {
          const problem = take(peer, data, isSynced, (request) => {
            void certificates.request(request).then((answer) => reply(peers, peer, answer));
          });
          if (problem !== undefined) refuse(peer, problem);
        },
        closed: () => {
          clearTimeout(peer.deadline);
          peer.reports.close();
          peers.delete(peer);
        },
      };
    },
    changed: () => debounce.trigger(),
    synced: () => {
      if (isSynced) return;
      options.flush();
      options.state.takeChanged();
      isSynced = true;
      for (const { session } of peers) session.begin();
    },
    proxies: () => [...peers].map(viewOf),
    close: () => {
      debounce.close();
      for (const { arrival, deadline, reports } of peers) {
        clearTimeout(deadline);
        reports.close();
        arrival.channel.close('the controller is stopping');
      }
      peers.clear();
    },
  };
}

/** Two connections of one proxy may overlap, so each has a key of its own. */
function reportsOf({ proxy }: Arrival, arrival: number, options: HubOptions): ProxyReports {
  const { namespace, podName } = proxy.caller;
  const key = `${proxy.program} ${namespace}/${podName}#${arrival}`;
  return new ProxyReports(proxy, (problems) => options.onReport?.(key, problems));
}

function newSession(arrival: Arrival, options: HubOptions): Session {
  return new Session(
    {
      maxFrameBytes,
      send: (frame) => arrival.channel.send(frame),
      onRejected: (rejected) => {
        options.onRejected?.(rejected.type);
        options.log.error(describe(arrival, rejected), 'proxy refused a resource');
      },
      onTooBig: (upsert: Upsert) => {
        const { type, name } = upsert;
        options.log.error(
          describe(arrival, { type, name, maxBytes: maxFrameBytes }),
          'resource not pushed: it is bigger than a frame; split it',
        );
      },
    },
    // Its token says of which namespace it is; what it says itself does not count.
    visibleTo(options.state, arrival.proxy.caller.namespace),
  );
}

type CertificateRequestFrame = Parameters<ReturnType<CertificateServer['connect']>['request']>[0];

/** What is wrong with the frame, if anything. */
function take(
  peer: Peer,
  data: string,
  synced: boolean,
  request: (frame: CertificateRequestFrame) => void,
): string | undefined {
  const frame = decodeProxyFrame(data);
  if (!frame.ok) return frame.error;
  switch (frame.value.kind) {
    case 'hello':
      if (frame.value.schema !== frameSchema) return `hello.schema must be ${frameSchema}`;
      if (frame.value.node !== peer.arrival.proxy.node)
        return 'hello.node is not the node of its token';
      if (frame.value.program !== peer.arrival.proxy.program)
        return 'hello.program is not what its token says';
      clearTimeout(peer.deadline);
      return peer.session.hello(frame.value, synced) ? undefined : 'a second hello';
    case 'ack':
    case 'nack':
      return peer.session.answered(frame.value) ? undefined : 'an answer to no push';
    case 'report':
      if (peer.session.stage === 'greeting') return 'a report before hello';
      peer.reports.take(frame.value);
      return undefined;
    case 'certificate-request':
      if (peer.session.stage === 'greeting') return 'a certificate request before hello';
      request(frame.value);
      return undefined;
  }
}

function reply(
  peers: ReadonlySet<Peer>,
  peer: Peer,
  answer: CertificateResponse | CertificateRefused,
): void {
  if (peers.has(peer)) peer.arrival.channel.send(answer);
}

function describe({ proxy }: Arrival, fields: object): object {
  return { node: proxy.node, pod: proxy.caller.podName, ...fields };
}

function viewOf({ arrival, session }: Peer): ProxyView {
  return {
    node: arrival.proxy.node,
    pod: arrival.proxy.caller.podName,
    stage: session.stage,
    lastAcked: session.lastAcked,
    nacked: session.nacked,
  };
}
