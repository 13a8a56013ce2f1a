import { afterAll, beforeAll, expect, test } from '@jest/globals';
import type { ReportedProblem } from '@ambit/api';
import type { KubeClient } from '@ambit/controller';
import { createKubeClient, createSources, startReportRelay } from '@ambit/controller';
import { KubeConfig } from '@kubernetes/client-node';
import { startTestApi, type TestApi } from './support/api-server.ts';

let running: TestApi;
let client: KubeClient;
const configMaps = { group: '', resource: 'configmaps' };
const log = { debug: noLine, info: noLine, warn: noLine, error: noLine };
function noLine(): void {
  // Nobody reads it.
}

beforeAll(async () => {
  running = await startTestApi();
  const { server, ca, api } = running;
  const config = new KubeConfig();
  config.loadFromOptions({
    clusters: [{ name: 'c', server, caData: Buffer.from(ca).toString('base64') }],
    users: [{ name: 'u', token: api.tokens.adminToken }],
    contexts: [{ name: 'x', cluster: 'c', user: 'u' }],
    currentContext: 'x',
  });
  client = createKubeClient(config);
  for (const name of ['istio-system', 'shop']) {
    const metadata = { name };
    api.store.create(
      { group: '', resource: 'namespaces' },
      { apiVersion: 'v1', kind: 'Namespace', metadata },
    );
  }
});

afterAll(async () => {
  client.close();
  await running.api.close();
});

function replica(podName: string) {
  const sources = createSources();
  const relay = startReportRelay({
    client,
    rootNamespace: 'istio-system',
    podName,
    sources,
    onChange: () => undefined,
    log,
  });
  const heard = (): unknown[] => [...sources.reports.entries()].map(([, report]) => report);
  return { relay, heard };
}

async function until(what: () => boolean, why: string): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!what()) {
    if (performance.now() > deadline) throw new Error(`timed out: ${why}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const problem = (message: string): ReportedProblem => ({
  type: 'authentication',
  name: 'shop/keys',
  field: 'spec.jwtRules[0].jwksUri',
  message,
});

test('what a proxy tells one replica, all of them know, for as long as it holds', async () => {
  const [one, two] = [replica('one'), replica('two')];
  const report = { proxy: 'waypoint shop/waypoint-1', problems: [problem('not fetched')] };
  one.relay.heard('waypoint shop/waypoint-1#4', report.problems);
  expect(one.heard()).toEqual([report]);
  await until(() => two.heard().length === 1, 'the other replica hears of it');
  expect(two.heard()).toEqual([report]);
  // Its own word is not heard twice.
  expect(one.heard()).toEqual([report]);

  two.relay.heard('waypoint shop/waypoint-2#1', [problem('neither')]);
  await until(() => one.heard().length === 2, 'both know of both');

  const late = replica('three');
  await until(() => late.heard().length === 2, 'who comes later knows them too');
  await late.relay.close();

  one.relay.heard('waypoint shop/waypoint-1#4', []);
  await until(() => two.heard().length === 1, 'what is mended is forgotten');
  await two.relay.close();
  // As with its pod, to which it belongs.
  running.api.store.delete(configMaps, 'istio-system', 'ambit-reports-two');
  await until(() => one.heard().length === 0, 'a replica that is gone takes its reports with it');
  await one.relay.close();
});

test('what cannot be read is nothing', async () => {
  const one = replica('one');
  for (const [index, reports] of ['{', '{}', '[{"problems":3}]'].entries()) {
    running.api.store.create(configMaps, {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: {
        name: `odd-${index}`,
        namespace: 'istio-system',
        labels: { 'ambit.dev/proxy-reports': 'true' },
      },
      data: { reports },
    });
  }
  const two = replica('two');
  two.relay.heard('waypoint shop/w#1', [problem('still')]);
  const problems = (): unknown[] =>
    one.heard().flatMap((report) => (report as { problems: unknown[] }).problems);
  await until(() => problems().length === 1, 'the others are heard');
  await one.relay.close();
  await two.relay.close();
});
