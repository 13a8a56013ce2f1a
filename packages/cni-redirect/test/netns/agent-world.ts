import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import type { Socket } from 'node:net';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { AgentFrame, EnrolledPod } from '@ambit/api';
import { agentSocketName, decodeAgentFrame, enrolmentSchema } from '@ambit/api';
import type { Logger } from '@ambit/core';
import { createLogger, envOf } from '@ambit/core';
import { FakeKube } from '@ambit/testkit';
import { KubeConfig } from '@kubernetes/client-node';
import type { Agent } from '../../src/agent/app.ts';
import { startAgent } from '../../src/agent/app.ts';
import { candidateOf } from '../../src/agent/candidate.ts';
import type { AgentConfig } from '../../src/agent/config.ts';
import { parseConfig } from '../../src/agent/config.ts';
import { handoverSocketName } from '../../src/agent/handover.ts';
import type { Kept } from '../../src/agent/keep.ts';
import { keepNode } from '../../src/agent/keep.ts';
import type { Echo, TestPod } from './world.ts';
import { makePod, rulesOf, serveIn } from './world.ts';

export const uid = '11111111-2222-3333-4444-555555555555';
export const podsPath = '/api/v1/pods';
export const namespacesPath = '/api/v1/namespaces';

/** An agent on a node with two pods' namespaces, an API server that does what it is told, and ztunnels. */
export class AgentWorld {
  readonly pod: TestPod;
  readonly peer: TestPod;
  readonly kube: FakeKube;
  readonly root = mkdtempSync(join(tmpdir(), 'cni-agent-'));
  readonly echoes: Echo[] = [];
  readonly logs: string[] = [];
  readonly ztunnels: FakeZtunnel[] = [];
  agent: Agent | undefined;

  static async make(): Promise<AgentWorld> {
    return new AgentWorld(await FakeKube.start());
  }

  private constructor(kube: FakeKube) {
    this.kube = kube;
    mkdirSync(join(this.root, 'net.d'));
    writeFileSync(join(this.root, 'plugin'), '#!/bin/sh\n', { mode: 0o755 });
    this.putNetworkPlugins();
    writeFileSync(
      join(this.root, 'net.d/10-main.conflist'),
      JSON.stringify({ cniVersion: '1.0.0', name: 'main', plugins: [{ type: 'ptp' }] }),
    );
    this.pod = makePod('agent-pod', 2);
    this.peer = makePod('agent-peer', 3);
  }

  async close(): Promise<void> {
    for (const z of this.ztunnels) z.close();
    for (const echo of this.echoes) echo.close();
    await this.stop();
    await this.kube.close();
    this.pod.close();
    this.peer.close();
    rmSync(this.root, { recursive: true });
  }

  async start(env: Readonly<Record<string, string>> = {}): Promise<void> {
    this.agent = await startAgent(this.#configured(env), this.#deps());
  }

  /** As the program does: takes the node over from an agent that was kept before. */
  keep(name: string, env: Readonly<Record<string, string>> = {}): Promise<Kept> {
    const config = this.#configured({ POD_NAME: name, ...env });
    const { logger, kubeconfig: kube } = this.#deps();
    return keepNode({
      path: join(this.root, handoverSocketName),
      ...candidateOf(config, { kube, logger }),
      begin: (signal) => startAgent(config, { logger, kubeconfig: kube, signal }),
      logger,
    });
  }

  #configured(env: Readonly<Record<string, string>>): AgentConfig {
    const { root } = this;
    return parseConfig(
      envOf({
        NODE_NAME: 'node-a',
        STATE_DIR: root,
        ZTUNNEL_SOCKET: join(root, agentSocketName),
        NETNS_DIR: '/run/netns',
        CNI_CONF_DIR: join(root, 'net.d'),
        CNI_BIN_DIR: join(root, 'bin'),
        PLUGIN_SOURCE: join(root, 'plugin'),
        RELEASE_GRACE: '300ms',
        HEALTH_PORT: '0',
        METRICS_PORT: '0',
        ...env,
      }),
    );
  }

  #deps(): { readonly logger: Logger; readonly kubeconfig: KubeConfig } {
    const kubeconfig = new KubeConfig();
    kubeconfig.loadFromClusterAndUser(
      { name: 'fake', server: this.kube.url, skipTLSVerify: true },
      { name: 'agent' },
    );
    const logger = createLogger({
      scope: 'test',
      level: 'debug',
      format: 'text',
      sink: { write: (line) => this.logs.push(line) },
    });
    return { logger, kubeconfig };
  }

  /** What the runtime has in its directory beside ours. */
  putNetworkPlugins(): void {
    mkdirSync(join(this.root, 'bin'), { recursive: true });
    for (const name of ['bridge', 'ptp'])
      writeFileSync(join(this.root, 'bin', name), '#!/bin/sh\n', { mode: 0o755 });
  }

  async stop(): Promise<void> {
    const { agent } = this;
    this.agent = undefined;
    await agent?.stop();
  }

  async until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
    const deadline = performance.now() + 10_000;
    while (!(await holds())) {
      if (performance.now() > deadline) throw new Error(`not so: ${what}\n${this.logs.join('')}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  ztunnel(instance: string): FakeZtunnel {
    const z = new FakeZtunnel(this, instance);
    this.ztunnels.push(z);
    return z;
  }

  captured(): boolean {
    return rulesOf(this.pod).includes('redirect to :15001');
  }

  annotation(): unknown {
    const found = this.kube.get(podsPath, 'shop/cart')?.metadata as
      { annotations?: Record<string, string> } | undefined;
    return found?.annotations?.['ambient.istio.io/redirection'];
  }

  putPod(change: { readonly annotations?: object; readonly startedAt?: string } = {}): void {
    const { pod, kube } = this;
    const { annotations = {}, startedAt } = change;
    const running = startedAt === undefined ? [] : [{ state: { running: { startedAt } } }];
    kube.put(podsPath, {
      metadata: { name: 'cart', namespace: 'shop', uid, labels: {}, annotations },
      spec: { nodeName: 'node-a', serviceAccountName: 'cart', containers: [] },
      status: {
        phase: 'Running',
        podIP: pod.ip4,
        podIPs: [{ ip: pod.ip4 }, { ip: pod.ip6 }],
        containerStatuses: running,
      },
    });
  }

  label(mode: string | undefined): void {
    this.kube.put(namespacesPath, {
      metadata: {
        name: 'shop',
        labels: mode === undefined ? {} : { 'istio.io/dataplane-mode': mode },
      },
    });
  }

  events(): { readonly reason: unknown; readonly message: unknown }[] {
    return this.kube
      .list('/api/v1/events')
      .map((event) => ({ reason: event['reason'], message: event['message'] }));
  }

  readyz(): Promise<{ readonly status: number; readonly text: string }> {
    const port = this.agent!.healthAddress.port;
    return answerOf({ port, path: '/readyz', method: 'GET' });
  }

  cmdadd(
    change: Record<string, unknown> = {},
    path = '/cmdadd',
  ): Promise<{ readonly status: number; readonly text: string }> {
    const socketPath = join(this.root, 'pluginevent.sock');
    return answerOf({ socketPath, method: 'POST', path }, JSON.stringify(this.starting(change)));
  }

  /** What the plugin says of the pod. */
  starting(change: Record<string, unknown> = {}): object {
    const { pod } = this;
    return {
      Netns: pod.path,
      PodName: 'cart',
      PodNamespace: 'shop',
      PodUID: uid,
      ContainerID: 'c1',
      IPs: [{ Address: `${pod.ip4}/32` }, { Address: `${pod.ip6}/128` }],
      ...change,
    };
  }
}

export function answerOf(
  options: object,
  body?: string,
): Promise<{ readonly status: number; readonly text: string }> {
  return new Promise((resolve, reject) => {
    const call = request(options, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
    });
    call.on('error', reject);
    call.end(body);
  });
}

/** Does what ztunnel does on this socket: it listens in the pods it is told of and says so. */
export class FakeZtunnel {
  readonly frames: AgentFrame[] = [];
  readonly pods = new Map<string, EnrolledPod>();
  /** What was true of the world when each frame came. */
  readonly seen: { kind: string; captured: boolean; annotated: boolean }[] = [];
  readonly #world: AgentWorld;
  readonly #socket: Socket;
  readonly #listeners: Echo[] = [];
  readonly #held: number[] = [];
  /** While set, it does not say that it has taken a pod. */
  #holds = false;
  /** UID of a pod that it cannot take. */
  refuses: string | undefined;

  constructor(world: AgentWorld, instance: string) {
    this.#world = world;
    this.#socket = connect(join(world.root, agentSocketName));
    this.#socket.on('error', () => undefined);
    this.#socket.write(`${JSON.stringify({ kind: 'hello', schema: enrolmentSchema, instance })}\n`);
    let text = '';
    this.#socket.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
      for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n')) {
        this.#frame(text.slice(0, end));
        text = text.slice(end + 1);
      }
    });
  }

  get listening(): boolean {
    return this.#listeners.length > 0;
  }

  #frame(line: string): void {
    const frame = decodeAgentFrame(line);
    if (!frame.ok) throw new Error(frame.error.message);
    const { value } = frame;
    const { pod, ztunnels } = this.#world;
    this.frames.push(value);
    this.seen.push({
      kind: value.kind,
      captured: this.#world.captured(),
      annotated: this.#world.annotation() === 'enabled',
    });
    if (value.kind === 'pod-added') {
      this.pods.set(value.pod.uid, value.pod);
      if (!ztunnels.some(({ listening }) => listening))
        this.#listeners.push(
          ...[15001, 15006, 15008].map((port) => serveIn(pod, port, `z${port}`)),
        );
    }
    if (value.kind === 'pod-removed') this.pods.delete(value.uid);
    if (value.kind === 'pod-added' && value.pod.uid === this.refuses)
      this.#ack(value.id, 'port 15008 is taken');
    else if (this.#holds && value.kind === 'pod-added') this.#held.push(value.id);
    else this.#ack(value.id);
  }

  #ack(id: number, error?: string): void {
    this.#socket.write(`${JSON.stringify({ kind: 'ack', id, error })}\n`);
  }

  set holds(holds: boolean) {
    this.#holds = holds;
    if (!holds) for (const id of this.#held.splice(0)) this.#ack(id);
  }

  /** Loses its listeners without knowing of it. */
  stopListening(): void {
    for (const listener of this.#listeners.splice(0)) listener.close();
  }

  close(): void {
    this.#socket.destroy();
    this.stopListening();
  }
}
