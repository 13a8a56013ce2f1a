import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { MeshCluster } from '../support/cluster.ts';
import { startMesh, until } from '../support/cluster.ts';
import { echo } from '../support/echo.ts';
import type { Totals } from '../support/load.ts';
import { underLoad } from '../support/load.ts';
import { findRelease, systemNamespace } from '../support/release.ts';

const release = findRelease(process.env['KUBECONFIG']);
const url = 'http://direct.shop:8080/';
const limitSeconds = 150;
/** Four callers are busy on connections that they keep, and the proxies of two nodes are replaced: each cuts each once. */
const mostCut = 4 * 2;
const figures: string[] = [];

const clusterWide = [
  '/apis/rbac.authorization.k8s.io/v1/clusterroles',
  '/apis/rbac.authorization.k8s.io/v1/clusterrolebindings',
  '/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations',
  '/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies',
  '/apis/scheduling.k8s.io/v1/priorityclasses',
  '/apis/gateway.networking.k8s.io/v1/gatewayclasses',
  '/api/v1/configmaps',
  '/apis/coordination.k8s.io/v1/leases',
];

interface List {
  readonly items: readonly { readonly metadata: { readonly name: string } }[];
}

/** Where the mesh was installed by other charts, there is no release of ours to change. */
(release === undefined ? describe.skip : describe)('helm under load', () => {
  let mesh: MeshCluster;

  beforeAll(async () => {
    mesh = await startMesh();
    for (const namespace of ['shop', 'clients'])
      await mesh.cluster.label(namespace, 'istio.io/dataplane-mode', 'ambient');
    for (const object of echo('direct', { namespace: 'shop', replicas: 2 }))
      await mesh.cluster.apply(object);
    await joined();
  }, 200_000);

  afterAll(async () => {
    process.stdout.write(`\n${figures.join('\n')}\n\n`);
    await release?.apply();
    await mesh.close();
  }, 400_000);

  /** Every pod of callers and called is ready and in the mesh. */
  const joined = (): Promise<true> =>
    until(async () => {
      const pods = [
        ...(await mesh.cluster.pods('shop')),
        ...(await mesh.cluster.pods('clients')),
      ].filter(({ labels }) => ['client', 'direct'].includes(labels.get('app') ?? ''));
      return (
        (pods.length >= 3 && pods.every(({ ready, redirected }) => ready && redirected)) ||
        undefined
      );
    }, 120_000);

  const programs = async (): Promise<string[]> =>
    (await mesh.cluster.pods(systemNamespace)).map(({ name }) => name);

  /** Until of the programs that were there none is, which go on with open connections for a while. */
  const gone = (before: readonly string[]): Promise<true> =>
    until(async () => {
      const now = await programs();
      return before.every((name) => !now.includes(name)) || undefined;
    }, 120_000);

  test('an upgrade that replaces every program, and the one back', async () => {
    for (const level of ['debug', undefined]) {
      const before = await programs();
      const totals = await underLoad(
        mesh,
        url,
        async () => {
          await release?.apply(level === undefined ? {} : { 'global.logging.level': level });
          await gone(before);
        },
        { limitSeconds },
      );
      figure(level === undefined ? 'upgrade back' : 'upgrade', totals);
      // A connection that is kept for longer than a proxy drains is cut in the end, where it is silent if it ever is.
      expect(totals.errors.filter((error) => !error.startsWith('kept '))).toEqual([]);
      expect(totals.failed).toBeLessThanOrEqual(mostCut);
    }
  }, 400_000);

  test('an uninstall leaves no trace, and what was installed before can be again', async () => {
    const before = await programs();
    const totals = await underLoad(
      mesh,
      url,
      async () => {
        await release?.uninstall();
        await gone(before);
      },
      { limitSeconds },
    );
    figure('uninstall', totals);
    expect(totals).toMatchObject({ failed: 0, errors: [] });
    expect(await traces()).toEqual([]);
    await release?.apply();
    await joined();
    const { supportedFeatures: features } = await classStatus();
    expect(features).toContainEqual({ name: 'HTTPRouteResponseHeaderModification' });
  }, 400_000);

  /** What of the mesh is in the cluster, but for the definitions and what users wrote. */
  async function traces(): Promise<string[]> {
    const found = await Promise.all(
      clusterWide.map(async (path) => {
        const { items } = (await mesh.get(path)) as List;
        return items
          .map(({ metadata }) => `${path.split('/').pop()} ${metadata.name}`)
          .filter((name) => /ambit|ztunnel|cni-redirect|istio/.test(name));
      }),
    );
    const pods = (
      await Promise.all(['shop', 'clients'].map((one) => mesh.cluster.pods(one)))
    ).flat();
    const captured = pods.filter(({ redirected }) => redirected);
    return [...found.flat(), ...captured.map(({ name }) => `redirected pod ${name}`)];
  }

  async function classStatus(): Promise<Readonly<Record<string, unknown>>> {
    const path = '/apis/gateway.networking.k8s.io/v1/gatewayclasses/istio-waypoint';
    return until(async () => {
      const { status } = (await mesh.get(path)) as { status?: Record<string, unknown> };
      return status?.['supportedFeatures'] === undefined ? undefined : status;
    });
  }

  function figure(what: string, { ok, failed, longestMs, errors }: Totals): void {
    const line = `${what.padEnd(14)} ${String(ok).padStart(6)} answered ${String(failed).padStart(3)} failed  longest ${longestMs} ms`;
    figures.push([line, ...errors].join('\n    '));
  }
});
