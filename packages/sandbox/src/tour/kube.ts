import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import type { KubernetesObject, V1Pod, V1Status } from '@kubernetes/client-node';
import {
  CoreV1Api,
  Exec,
  KubeConfig,
  KubernetesObjectApi,
  PatchStrategy,
} from '@kubernetes/client-node';
import { redirectionAnnotation } from '@ambit/api';
import type { KubeClient } from '@ambit/controller';
import { runCli } from '@ambit/cli';
import { createKubeClient, kubeStatus } from '@ambit/controller';
import type { ExecResult, LinkCapture, TourCluster, TourPod } from './cluster.ts';

export interface KubeTourOptions {
  readonly kubeconfig: string;
  captureNodeLink(node: string): LinkCapture;
}

/** The tour's hands, through the same API and the same calls that a user's kubectl makes. */
export function createKubeTour(options: KubeTourOptions): TourCluster {
  const config = new KubeConfig();
  config.loadFromString(options.kubeconfig);
  const core = config.makeApiClient(CoreV1Api);
  const objects = KubernetesObjectApi.makeApiClient(config);
  const plain = createKubeClient(config);
  const exec = new Exec(config);
  return {
    async label(namespace, key, value) {
      const patch = { metadata: { name: namespace, labels: { [key]: value } } };
      await objects.patch(
        { apiVersion: 'v1', kind: 'Namespace', ...patch } as unknown as KubernetesObject,
        undefined,
        undefined,
        'ambit-tour',
        undefined,
        PatchStrategy.MergePatch,
      );
    },
    async apply(object) {
      await plain.request({
        method: 'PATCH',
        path: await pathOf(plain, object),
        query: new Map([
          ['fieldManager', 'ambit-tour'],
          ['force', 'true'],
        ]),
        // As it stands: the models of client-node drop `enum` and all `x-kubernetes-…` of a schema.
        contentType: 'application/apply-patch+yaml',
        body: object,
      });
    },
    async ambitctl(...args) {
      const folder = mkdtempSync(join(tmpdir(), 'ambit-tour-'));
      try {
        const file = join(folder, 'kubeconfig');
        writeFileSync(file, options.kubeconfig, { mode: 0o600 });
        const lines: string[] = [];
        const write = (line: string): number => lines.push(line);
        const status = await runCli([...args, '--kubeconfig', file], { out: write, err: write });
        return { ok: status === 0, text: lines.join('\n') };
      } finally {
        rmSync(folder, { recursive: true });
      }
    },
    async exists(object) {
      try {
        await plain.request({ path: await pathOf(plain, object) });
        return true;
      } catch (error) {
        if (kubeStatus(error) === 404) return false;
        throw error;
      }
    },
    async get(object) {
      return plain.request({ path: await pathOf(plain, object) });
    },
    async remove(object) {
      await objects.delete(object);
    },
    async pods(namespace) {
      const { items } = await core.listNamespacedPod({ namespace });
      return items.filter(({ metadata }) => metadata?.deletionTimestamp === undefined).map(tourPod);
    },
    async exec(namespace, pod, command) {
      const { spec } = await core.readNamespacedPod({ namespace, name: pod });
      return run(exec, { namespace, pod, container: spec?.containers[0]?.name ?? '' }, command);
    },
    logs: (namespace, name, previous = false) =>
      core.readNamespacedPodLog({ namespace, name, previous }),
    captureNodeLink: (node) => options.captureNodeLink(node),
    async read(ip, port, path) {
      const host = ip.includes(':') ? `[${ip}]` : ip;
      const answer = await fetch(`http://${host}:${port}${path}`, {
        signal: AbortSignal.timeout(5000),
      });
      return answer.text();
    },
  };
}

interface Discovered {
  readonly resources: readonly { name: string; kind: string; namespaced: boolean }[];
}

async function pathOf(
  client: KubeClient,
  { apiVersion = '', kind = '', metadata }: KubernetesObject,
): Promise<string> {
  const group = apiVersion.includes('/') ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
  const { resources } = (await client.request({ path: group })) as Discovered;
  const found = resources.find((one) => one.kind === kind && !one.name.includes('/'));
  if (found === undefined) throw new Error(`the API has no ${kind} in ${apiVersion}`);
  const scope = found.namespaced ? `/namespaces/${metadata?.namespace ?? 'default'}` : '';
  return `${group}${scope}/${found.name}/${metadata?.name ?? ''}`;
}

// eslint-disable-next-line complexity -- no decision, one default for each field that the API may leave out
function tourPod({ metadata, spec, status }: V1Pod): TourPod {
  const conditions = status?.conditions ?? [];
  return {
    namespace: metadata?.namespace ?? '',
    name: metadata?.name ?? '',
    uid: metadata?.uid ?? '',
    node: spec?.nodeName ?? '',
    ip: status?.podIP ?? '',
    ips: (status?.podIPs ?? []).map(({ ip }) => ip),
    restarts: (status?.containerStatuses ?? []).reduce(
      (sum, { restartCount }) => sum + restartCount,
      0,
    ),
    labels: new Map(Object.entries(metadata?.labels ?? {})),
    redirected: metadata?.annotations?.[redirectionAnnotation] === 'enabled',
    ready: conditions.some(({ type, status: state }) => type === 'Ready' && state === 'True'),
  };
}

/** Runs a command in a pod's first container; the output is standard output and error together. */
async function run(
  exec: Exec,
  { namespace, pod, container }: { namespace: string; pod: string; container: string },
  command: readonly string[],
): Promise<ExecResult> {
  const chunks: Buffer[] = [];
  const sink = (): Writable =>
    new Writable({
      write(chunk: Buffer, _encoding, done) {
        chunks.push(chunk);
        done();
      },
    });
  const status = await new Promise<V1Status>((resolve, reject) => {
    exec
      .exec(namespace, pod, container, [...command], sink(), sink(), null, false, resolve)
      .then((socket) => {
        socket.onerror = () => reject(new Error(`exec in ${namespace}/${pod} broke off`));
      }, reject);
  });
  return { code: exitCode(status), output: Buffer.concat(chunks).toString() };
}

function exitCode(status: V1Status): number {
  if (status.status === 'Success') return 0;
  const cause = status.details?.causes?.find(({ reason }) => reason === 'ExitCode');
  return Number(cause?.message ?? 1);
}
