import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { MeshCluster } from '../support/cluster.ts';
import { startMesh, until } from '../support/cluster.ts';
import { askEcho, echo } from '../support/echo.ts';
import type { Totals } from '../support/load.ts';
import { underLoad } from '../support/load.ts';
import { findRelease, systemNamespace } from '../support/release.ts';
import { tracesOfMesh, untilNoTrace } from '../support/traces.ts';
import { clusterName } from '../support/wire.ts';

const release = findRelease(process.env['KUBECONFIG']);
const url = 'http://direct.shop:8080/';
const limitSeconds = 150;
/** Requests of callers that stand still for a whole pause of 5 to 20 ms between an answer and the end behind it. */
const mostLate = 2;
const figures: string[] = [];

const waypointLabels = { 'gateway.networking.k8s.io/gateway-name': 'waypoint' };
const gateway = '/apis/gateway.networking.k8s.io/v1/namespaces/shop/gateways/waypoint';

/** Where the mesh was installed by other charts, there is no release of ours to change. */
(release === undefined ? describe.skip : describe)('helm under load', () => {
  let mesh: MeshCluster;

  beforeAll(async () => {
    mesh = await startMesh();
    for (const namespace of ['shop', 'clients'])
      await mesh.cluster.label(namespace, 'istio.io/dataplane-mode', 'ambient');
    const made = await mesh.ctl('waypoint', 'apply', '-n', 'shop', '--wait');
    expect(made.text).toContain('waypoint shop/waypoint serves');
    for (const object of [
      ...echo('direct', { namespace: 'shop', replicas: 2 }),
      ...echo('bound', {
        namespace: 'shop',
        serviceLabels: { 'istio.io/use-waypoint': 'waypoint' },
      }),
    ])
      await mesh.cluster.apply(object);
    await joined();
    await throughWaypoint();
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
      ].filter(({ labels }) => ['client', 'direct', 'bound'].includes(labels.get('app') ?? ''));
      return (
        (pods.length >= 4 && pods.every(({ ready, redirected }) => ready && redirected)) ||
        undefined
      );
    }, 120_000);

  const client = () => mesh.pod('clients', { app: 'client' });

  /** Until what asks for the waypoint has it. */
  const throughWaypoint = (): Promise<true> =>
    until(async () => {
      const seen = await askEcho(mesh, await client(), 'bound.shop');
      return seen?.caller === (await mesh.pod('shop', waypointLabels)).ip || undefined;
    }, 60_000);

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
      expect(totals.errors.filter((error) => !error.startsWith('kept '))).toEqual([]);
      expect(totals.failed).toBeLessThanOrEqual(mostLate);
    }
  }, 400_000);

  test('an uninstall leaves no trace, and what was installed before can be again', async () => {
    const there = await tracesOfMesh(mesh.kubeconfig);
    for (const one of [
      'GatewayClass istio-waypoint',
      'Deployment shop/waypoint: field of ambit-gateway-deployer',
    ])
      expect(there).toContain(one);
    if (clusterName !== undefined) expect(there).toContain('node-2: /opt/cni/bin/ambit-cni');
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
    await untilNoTrace(mesh.kubeconfig);
    // What users wrote stays, and what asked for the waypoint is reached without it.
    expect(await mesh.get(gateway)).toMatchObject({ spec: { gatewayClassName: 'istio-waypoint' } });
    const { name: bound } = await mesh.pod('shop', { app: 'bound' });
    expect(await askEcho(mesh, await client(), 'bound.shop')).toMatchObject({
      pod: bound,
      caller: (await client()).ip,
    });
    await release?.apply();
    await joined();
    await throughWaypoint();
    const { supportedFeatures: features } = await classStatus();
    expect(features).toContainEqual({ name: 'HTTPRouteResponseHeaderModification' });
  }, 600_000);

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
