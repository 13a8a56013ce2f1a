import { describe, expect, test } from '@jest/globals';
import type { IpAddress, Port } from '@ambit/api';
import type { PodFacts } from './enrol.ts';
import { captureOf, decideEnrolment } from './enrol.ts';

const mode = 'istio.io/dataplane-mode';
const excluded = ['kube-system', 'istio-system'];

function pod(change: Partial<PodFacts> = {}): PodFacts {
  return {
    uid: 'u',
    namespace: 'shop',
    name: 'cart',
    serviceAccount: 'cart',
    labels: new Map(),
    annotations: new Map(),
    hostNetwork: false,
    phase: 'Running',
    deleting: false,
    addresses: [],
    probePorts: [],
    startedAtMs: undefined,
    ...change,
  };
}

describe('labels of namespace and pod', () => {
  test.each([
    // namespace, pod, outcome
    [undefined, undefined, 'not-labelled'],
    [undefined, 'ambient', 'enrolled'],
    [undefined, 'none', 'opted-out'],
    [undefined, 'sidecar', 'not-labelled'],
    ['ambient', undefined, 'enrolled'],
    ['ambient', 'ambient', 'enrolled'],
    ['ambient', 'none', 'opted-out'],
    ['ambient', 'sidecar', 'not-labelled'],
    ['ambient', '', 'not-labelled'],
    ['none', undefined, 'not-labelled'],
    ['none', 'ambient', 'enrolled'],
    ['Ambient', undefined, 'not-labelled'],
  ])('namespace %s, pod %s: %s', (namespace, own, outcome) => {
    const labels = (value: string | undefined) =>
      new Map(value === undefined ? [] : [[mode, value]]);
    const decision = decideEnrolment(pod({ labels: labels(own) }), labels(namespace), excluded);
    expect(decision.enrolled ? 'enrolled' : decision.why).toBe(outcome);
  });
});

describe('a labelled pod is left alone', () => {
  test.each<[string, Partial<PodFacts>, string]>([
    ['in an excluded namespace', { namespace: 'istio-system' }, 'excluded-namespace'],
    ['on the network of its host', { hostNetwork: true }, 'host-network'],
    [
      'with a sidecar',
      { annotations: new Map([['sidecar.istio.io/status', '{}']]) },
      'has-sidecar',
    ],
    ['that has succeeded', { phase: 'Succeeded' }, 'finished'],
    ['that has failed', { phase: 'Failed' }, 'finished'],
  ])('%s', (_, change, why) => {
    const labelled = pod({ labels: new Map([[mode, 'ambient']]), ...change });
    expect(decideEnrolment(labelled, new Map([[mode, 'ambient']]), excluded)).toEqual({
      enrolled: false,
      why,
    });
  });
});

test('capture follows addresses, probes and the annotation', () => {
  const facts = pod({
    probePorts: [8080 as Port],
    annotations: new Map([['ambient.istio.io/bypass-inbound-capture', 'true']]),
  });
  const addresses = ['10.0.0.1', 'fd00::1', '10.0.0.2'] as IpAddress[];
  expect(captureOf(facts, addresses)).toEqual({
    families: ['IPv4', 'IPv6'],
    probePorts: [8080],
    captureInbound: false,
    captureDns: false,
    otherProtocols: 'pass',
  });
});
