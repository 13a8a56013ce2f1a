import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { dataplaneModeLabel, hbonePort, metricsPort } from '@ambit/api';
import type { TourCluster, TourPod } from './cluster.ts';
import { examine } from './packets.ts';
import { eventually } from './wait.ts';
import { showWaypoint } from './waypoint.ts';

/** Where the sample shop puts what the tour uses; see samples/shop. */
const shop = 'shop';
const clients = 'clients';
const target = 'http://frontend.shop:8080';
const steadyRate = 40;
/** The load runs at least this long in and after the mesh, so that what breaks late is seen. */
const dwellMs = 3_000;

/** Writes one line; `ok` undefined is narration, otherwise the line is a proof that held or did not. */
export type TourOutput = (text: string, ok?: boolean) => void;

/** One run of the tour. Every proof is collected; the run ends well only if all of them held. */
class Tour {
  readonly #cluster: TourCluster;
  readonly #write: TourOutput;
  readonly #steadyScript: string;
  readonly #chapters: { readonly title: string; readonly at: string }[] = [];
  #failed = 0;
  #proved = 0;

  constructor(cluster: TourCluster, write: TourOutput, steadyScript: string) {
    this.#cluster = cluster;
    this.#write = write;
    this.#steadyScript = steadyScript;
  }

  async run(): Promise<boolean> {
    const before = await this.#allPods();
    await this.#startSteadyLoad();
    this.#chapter('1. Before the label: plain text');
    await this.#showLink('plain');
    this.#chapter('2. Label two namespaces');
    await this.#enrol();
    await this.#showLink('mtls');
    await this.#showIdentities();
    await this.#showUntouched(before);
    this.#chapter('3. A policy that refuses one caller by name');
    await this.#showPolicy();
    this.#chapter('4. What the node proxies counted');
    await this.#showMetrics();
    await showWaypoint({
      cluster: this.#cluster,
      chapter: (title) => this.#chapter(title),
      say: (text) => this.#write(text),
      prove: (ok, text) => this.#prove(ok, text),
    });
    this.#chapter('13. Remove the label: plain text again');
    await this.#release();
    await this.#showLink('plain');
    this.#chapter('14. The steady load through all of this');
    await this.#showSteadyLoad();
    await this.#showUntouched(before);
    await this.#showNoRestart();
    this.#write('');
    this.#write(`${this.#proved} proofs held, ${this.#failed} did not`);
    return this.#failed === 0;
  }

  #chapter(title: string): void {
    this.#write('');
    this.#write(title);
    this.#chapters.push({ title, at: new Date().toISOString() });
  }

  #prove(ok: boolean, text: string): void {
    if (ok) this.#proved += 1;
    else this.#failed += 1;
    this.#write(text, ok);
  }

  async #pod(namespace: string, app: string): Promise<TourPod> {
    const pods = await this.#cluster.pods(namespace);
    const pod = pods.find(({ labels, ready }) => labels.get('app') === app && ready);
    if (pod === undefined) throw new Error(`no ready pod of app ${app} in namespace ${namespace}`);
    return pod;
  }

  async #allPods(): Promise<TourPod[]> {
    const pods = await Promise.all(
      [shop, clients].map((namespace) => this.#cluster.pods(namespace)),
    );
    return pods.flat();
  }

  /** A request from a pod; the secret travels in the path. */
  async #call(app: string, path: string): Promise<{ ok: boolean; output: string }> {
    const pod = await this.#pod(clients, app);
    const command = [
      'curl',
      '-s',
      '-S',
      '-m',
      '8',
      '-w',
      ' [status %{http_code}]',
      `${target}${path}`,
    ];
    const { code, output } = await this.#cluster.exec(clients, pod.name, command);
    return { ok: code === 0 && output.includes('[status 200]'), output: output.trim() };
  }

  async #showLink(expected: 'plain' | 'mtls'): Promise<void> {
    const client = await this.#pod(clients, 'client');
    const server = await this.#pod(shop, 'frontend');
    const secret = `secret-${randomBytes(8).toString('hex')}`;
    const capture = this.#cluster.captureNodeLink(client.node);
    await sleep(50);
    const answer = await this.#call('client', `/?q=${secret}`);
    await sleep(100);
    capture.stop();
    const seen = examine(capture.frames, secret, hbonePort);
    this.#prove(
      answer.ok,
      `client on ${client.node} called frontend on ${server.node}: ${firstLine(answer.output)}`,
    );
    const where = `packet capture of ${client.node}'s link, ${seen.segments} TCP segments:`;
    if (expected === 'plain') {
      this.#prove(
        seen.inClear > 0,
        `${where} the request is there in clear, in ${seen.inClear} of them`,
      );
      return;
    }
    this.#prove(
      seen.segments > 0 && seen.inClear === 0,
      `${where} the request is in clear in ${seen.inClear} of them`,
    );
    this.#prove(
      seen.onHbonePort > 0 && seen.tlsRecords > 0,
      `${seen.tlsRecords} segments on port ${hbonePort} start with a TLS record`,
    );
  }

  async #enrol(): Promise<void> {
    for (const namespace of [shop, clients]) {
      this.#write(`kubectl label namespace ${namespace} ${dataplaneModeLabel}=ambient`);
      await this.#cluster.label(namespace, dataplaneModeLabel, 'ambient');
    }
    const pods = await this.#untilRedirected(true);
    this.#prove(
      pods !== undefined,
      `all ${pods?.length ?? 0} pods are captured, annotated ambient.istio.io/redirection: enabled`,
    );
    await this.#untilPath('mtls');
    await sleep(dwellMs);
  }

  async #release(): Promise<void> {
    for (const namespace of [shop, clients]) {
      this.#write(`kubectl label namespace ${namespace} ${dataplaneModeLabel}-`);
      await this.#cluster.label(namespace, dataplaneModeLabel, null);
    }
    const pods = await this.#untilRedirected(false);
    this.#prove(pods !== undefined, 'no pod is captured any more');
    await this.#untilPath('plain');
    await sleep(dwellMs);
  }

  async #untilRedirected(redirected: boolean): Promise<TourPod[] | undefined> {
    return eventually(async () => {
      const pods = await this.#allPods();
      return pods.every((pod) => pod.redirected === redirected) ? pods : undefined;
    });
  }

  /** The nodes' proxies learn of it through the controller; waits until the link shows that they did. */
  async #untilPath(expected: 'plain' | 'mtls'): Promise<void> {
    await eventually(async () => {
      const client = await this.#pod(clients, 'client');
      const capture = this.#cluster.captureNodeLink(client.node);
      const secret = `probe-${randomBytes(8).toString('hex')}`;
      await this.#call('client', `/?q=${secret}`);
      capture.stop();
      return (
        examine(capture.frames, secret, hbonePort).inClear > 0 === (expected === 'plain') ||
        undefined
      );
    }, 15_000);
  }

  async #showIdentities(): Promise<void> {
    const source = 'spiffe://cluster.local/ns/clients/sa/client';
    const destination = 'spiffe://cluster.local/ns/shop/sa/frontend';
    for (const direction of ['outbound', 'inbound'] as const) {
      const line = await eventually(() => this.#accessLog(direction, source, destination), 10_000);
      const side = direction === 'outbound' ? "source node's" : "destination node's";
      this.#prove(
        line !== undefined,
        `the ${side} ztunnel logged both identities: ${source} → ${destination}`,
      );
    }
  }

  async #accessLog(
    direction: string,
    source: string,
    destination: string,
  ): Promise<string | undefined> {
    for (const pod of await this.#ztunnels()) {
      const log = await this.#cluster.logs(pod.namespace, pod.name);
      const line = log
        .split('\n')
        .find((text) =>
          [direction, source, destination, 'connection complete'].every((part) =>
            text.includes(part),
          ),
        );
      if (line !== undefined) return line;
    }
    return undefined;
  }

  async #ztunnels(): Promise<TourPod[]> {
    const pods = await this.#cluster.pods('istio-system');
    return pods.filter(({ labels }) => labels.get('app') === 'ztunnel');
  }

  async #showUntouched(before: readonly TourPod[]): Promise<void> {
    const now = new Map((await this.#allPods()).map((pod) => [pod.uid, pod]));
    const untouched = before.every(({ uid, restarts }) => now.get(uid)?.restarts === restarts);
    this.#prove(untouched, `none of the ${before.length} pods was restarted or replaced`);
  }

  /** The mesh's own programs: one that fell over would have come back, and nobody might have noticed. */
  async #showNoRestart(): Promise<void> {
    const pods = await this.#cluster.pods('istio-system');
    const fallen = pods.filter(({ restarts }) => restarts > 0);
    this.#prove(
      fallen.length === 0,
      `none of the ${pods.length} pods of the mesh was restarted ${fallen.map(({ name }) => name).join(' ')}`.trimEnd(),
    );
    for (const { namespace, name } of fallen) await this.#sayLastWords(namespace, name);
  }

  async #showPolicy(): Promise<void> {
    const policy = {
      apiVersion: 'security.istio.io/v1',
      kind: 'AuthorizationPolicy',
      metadata: { name: 'frontend-no-strangers', namespace: shop },
      spec: {
        selector: { matchLabels: { app: 'frontend' } },
        action: 'DENY',
        rules: [{ from: [{ source: { principals: ['cluster.local/ns/clients/sa/stranger'] } }] }],
      },
    };
    const atFirst = await this.#call('stranger', '/');
    this.#prove(atFirst.ok, 'without a policy the stranger is served');
    this.#write('kubectl apply: DENY frontend to cluster.local/ns/clients/sa/stranger');
    await this.#cluster.apply(policy);
    const refused = await eventually(
      async () => ((await this.#call('stranger', '/')).ok ? undefined : true),
      10_000,
    );
    this.#prove(refused === true, 'the stranger is refused');
    const line = await eventually(async () => this.#logWith('shop/frontend-no-strangers'), 10_000);
    this.#prove(
      line !== undefined,
      'the log of the refusing ztunnel names the policy shop/frontend-no-strangers',
    );
    this.#prove((await this.#call('client', '/')).ok, 'the client is let through');
    await this.#cluster.remove(policy);
    const again = await eventually(
      async () => ((await this.#call('stranger', '/')).ok ? true : undefined),
      10_000,
    );
    this.#prove(again === true, 'with the policy gone the stranger is served again');
  }

  async #logWith(text: string): Promise<string | undefined> {
    for (const pod of await this.#ztunnels()) {
      const log = await this.#cluster.logs(pod.namespace, pod.name);
      const line = log.split('\n').find((entry) => entry.includes(text));
      if (line !== undefined) return line;
    }
    return undefined;
  }

  async #showMetrics(): Promise<void> {
    const wanted = [
      'istio_tcp_connections_opened_total',
      'connection_security_policy="mutual_tls"',
      'source_workload="client"',
      'destination_workload="frontend"',
    ];
    for (const reporter of ['source', 'destination']) {
      const lines = await Promise.all(
        (await this.#ztunnels()).map(async ({ ip }) =>
          this.#cluster.read(ip, metricsPort, '/metrics'),
        ),
      );
      const line = lines
        .flatMap((text) => text.split('\n'))
        .find((text) => [...wanted, `reporter="${reporter}"`].every((part) => text.includes(part)));
      const count = line?.split(' ').at(-1) ?? '0';
      this.#prove(
        Number(count) > 0,
        `istio_tcp_connections_opened_total{reporter="${reporter}",…"client" → "frontend",…mutual_tls} is ${count}`,
      );
    }
  }

  /** What the mesh's programs said while requests failed. */
  async #sayWhy(from: string, to: string): Promise<void> {
    const chapter = this.#chapters.findLast(({ at }) => at <= from)?.title ?? '';
    this.#write(`requests failed between ${from} and ${to}, first in "${chapter}"`);
    const until = new Date(Date.parse(to) + 1000).toISOString();
    for (const { namespace, name } of await this.#cluster.pods('istio-system')) {
      const lines = (await this.#cluster.logs(namespace, name)).split('\n');
      const said = lines.filter(
        (line) => line >= from && line <= until && !line.includes('\tinfo\t'),
      );
      for (const line of said.slice(-5)) this.#write(`${name}: ${line}`);
    }
  }

  async #sayLastWords(namespace: string, name: string): Promise<void> {
    const log = await this.#cluster.logs(namespace, name, true);
    this.#write(`${name} was restarted; its last words:`);
    for (const line of log.trimEnd().split('\n').slice(-15)) this.#write(`  ${line}`);
  }

  async #startSteadyLoad(): Promise<void> {
    await this.#cluster.apply({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: 'steady', namespace: clients, labels: { app: 'steady' } },
      spec: {
        serviceAccountName: 'client',
        terminationGracePeriodSeconds: 1,
        containers: [
          {
            name: 'steady',
            image: 'ambit/samples',
            command: ['node', this.#steadyScript, `${target}/`, String(steadyRate)],
          },
        ],
      },
    });
    const running = await eventually(
      async () => ((await this.#steadyTotals()).ok > 20 ? true : undefined),
      20_000,
    );
    this.#prove(
      running === true,
      `a steady load of ${steadyRate} requests a second runs, each on a connection of its own`,
    );
  }

  async #steadyTotals(): Promise<{
    sent: number;
    ok: number;
    failed: number;
    errors: Record<string, number>;
    failedAt: readonly string[];
  }> {
    const none = { sent: 0, ok: 0, failed: 0, errors: {}, failedAt: [] };
    const pod = (await this.#cluster.pods(clients)).find(
      ({ name, ready }) => name === 'steady' && ready,
    );
    if (pod === undefined) return none;
    const last = (await this.#cluster.logs(clients, 'steady')).trim().split('\n').at(-1) ?? '';
    return last.startsWith('{') ? (JSON.parse(last) as typeof none) : none;
  }

  async #showSteadyLoad(): Promise<void> {
    const { sent, ok, failed, errors, failedAt } = await this.#steadyTotals();
    const why = failed === 0 ? '' : ` ${JSON.stringify(errors)}`;
    this.#prove(
      ok > 5 * steadyRate && failed === 0,
      `of ${sent} requests ${ok} were answered, ${failed} failed${why}`,
    );
    const [from, to] = failedAt;
    if (from !== undefined && to !== undefined) await this.#sayWhy(from, to);
    await this.#cluster.remove({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: 'steady', namespace: clients },
    });
  }
}

export async function runTour(
  cluster: TourCluster,
  write: TourOutput,
  steadyScript: string,
): Promise<boolean> {
  return new Tour(cluster, write, steadyScript).run();
}

function firstLine(text: string): string {
  const line = text.split('\n')[0] ?? '';
  return line.length > 100 ? `${line.slice(0, 100)}…` : line;
}
