import type { ReportedProblem, ResourceType } from '@ambit/api';

import type { ProxyReport, Sources } from '../collections/sources.ts';
import type { KubeClient } from '../kube/client.ts';
import { field, list, text } from '../kube/decode/fields.ts';
import { createReconciler } from '../kube/reconciler.ts';
import type { Reflector, ReflectorTimings } from '../kube/reflector.ts';
import { startReflector, wholeList } from '../kube/reflector.ts';
import type { Log } from '../log.ts';

export interface ReportRelayOptions {
  readonly client: KubeClient;
  readonly rootNamespace: string;
  /** Of this replica. */
  readonly podName: string;
  readonly sources: Pick<Sources, 'pods' | 'reports'>;
  readonly onChange: () => void;
  readonly timings?: Partial<ReflectorTimings>;
  readonly log: Log;
}

export interface ReportRelay {
  /** What a proxy that is connected here reports now; nothing when it is gone. */
  heard(connection: string, problems: readonly ReportedProblem[]): void;
  close(): Promise<void>;
}

const label = 'ambit.dev/proxy-reports';
const fieldManager = 'ambit-proxy-reports';
/** Far below what an object may have; what is beyond is not told. */
const maxReports = 500;

/**
 * A proxy is connected to one replica, and only one of them writes statuses: each replica publishes what its proxies
 * report, in a ConfigMap of its own that goes with its pod, and hears what the others publish.
 */
export function startReportRelay(options: ReportRelayOptions): ReportRelay {
  const { client, rootNamespace, podName, sources, onChange, log } = options;
  const name = `ambit-reports-${podName}`;
  const own = new Map<string, ProxyReport>();
  let published = false;
  const reconciler = createReconciler({
    run: async () => {
      if (own.size === 0 && !published) return;
      const uid = sources.pods.get(`${rootNamespace}/${podName}`)?.meta.uid;
      const object = reportsObject({ name, namespace: rootNamespace, podName, uid }, [
        ...own.values(),
      ]);
      await client.request({
        method: 'PATCH',
        path: `${collectionIn(rootNamespace)}/${name}`,
        query: new Map([
          ['fieldManager', fieldManager],
          ['force', 'true'],
        ]),
        contentType: 'application/apply-patch+yaml',
        body: object,
      });
      published = true;
    },
    onError: (_key, error) =>
      log.warn({ err: error, object: `ConfigMap ${name}` }, 'reports of proxies not published'),
  });
  const reflector = followOthers(options, name);
  return {
    heard: (connection, problems) => {
      const [proxy = ''] = connection.split('#');
      if (problems.length === 0) {
        own.delete(connection);
        sources.reports.delete(connection);
      } else {
        const report = { proxy, problems };
        own.set(connection, report);
        sources.reports.set(connection, report);
      }
      reconciler.enqueue(name);
      onChange();
    },
    close: async () => {
      await reflector.close();
      await reconciler.close();
    },
  };
}

/** Keeps what the other replicas publish among the sources. */
function followOthers(
  { client, rootNamespace, sources, onChange, timings, log }: ReportRelayOptions,
  ownName: string,
): Reflector {
  const others = new Map<string, readonly string[]>();
  const forget = (from: string): void => {
    for (const key of others.get(from) ?? []) sources.reports.delete(key);
    others.delete(from);
  };
  const take = (object: unknown): void => {
    const from = text(field(object, 'metadata', 'name'));
    if (from === ownName) return;
    forget(from);
    const reports = reportsOf(object);
    const keys = reports.map((_report, index) => `${from} ${index}`);
    for (const [index, report] of reports.entries()) sources.reports.set(keys[index] ?? '', report);
    if (keys.length > 0) others.set(from, keys);
  };
  return startReflector({
    client,
    path: collectionIn(rootNamespace),
    labelSelector: `${label}=true`,
    ...(timings === undefined ? {} : { timings }),
    sink: {
      list: wholeList((objects) => {
        for (const from of [...others.keys()]) forget(from);
        for (const object of objects) take(object);
        onChange();
      }),
      upsert: (object) => {
        take(object);
        onChange();
      },
      remove: (object) => {
        forget(text(field(object, 'metadata', 'name')));
        onChange();
      },
    },
    onFailure: (error, attempt) =>
      log.debug({ err: error, attempt }, "watch of other replicas' reports failed"),
  });
}

function collectionIn(namespace: string): string {
  return `/api/v1/namespaces/${namespace}/configmaps`;
}

interface Publisher {
  readonly name: string;
  readonly namespace: string;
  readonly podName: string;
  /** Of the pod, to which the object belongs; undefined where the program is in none. */
  readonly uid: string | undefined;
}

/** Pure: the ConfigMap in which a replica publishes reports. */
export function reportsObject(
  { name, namespace, podName, uid }: Publisher,
  reports: readonly ProxyReport[],
): object {
  const owner = { apiVersion: 'v1', kind: 'Pod', name: podName, uid };
  return {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: {
      name,
      namespace,
      labels: { [label]: 'true' },
      ...(uid === undefined ? {} : { ownerReferences: [owner] }),
    },
    data: { reports: JSON.stringify(reports.slice(0, maxReports)) },
  };
}

/** Pure: what another replica has published; nothing where it cannot be read. */
export function reportsOf(object: unknown): readonly ProxyReport[] {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text(field(object, 'data', 'reports')));
  } catch {
    return [];
  }
  if (!Array.isArray(parsed)) return [];
  return parsed.slice(0, maxReports).map((report: unknown) => ({
    proxy: text(field(report, 'proxy')),
    problems: list(field(report, 'problems')).map((problem) => ({
      type: text(field(problem, 'type')) as ResourceType,
      name: text(field(problem, 'name')),
      field: text(field(problem, 'field')),
      message: text(field(problem, 'message')),
    })),
  }));
}
