import { beforeAll, describe, expect, test } from '@jest/globals';
import type { CertificateRequest, SpiffeId } from '@ambit/api';

import { newCsr } from '../../test/proxy.ts';
import { decoded, value } from '../../test/records.ts';
import { aPod, memoryLog, trustDomain } from '../../test/support.ts';
import { createSources } from '../collections/sources.ts';
import { decodePod } from '../kube/decode/pod.ts';
import type { Authority } from './authority.ts';
import { loadAuthority, makeSelfSignedRoot } from './authority.ts';
import type { CertificateServerOptions } from './server.ts';
import { createCertificateServer } from './server.ts';

const caller = { namespace: 'istio-system', serviceAccount: 'ztunnel', podName: 'z', podUid: 'z' };
const id = (name: string) => `spiffe://cluster.local/ns/shop/sa/${name}` as SpiffeId;

describe('the certificate server', () => {
  let authority: Authority;
  let csr: string;
  beforeAll(async () => {
    authority = value(
      await loadAuthority(await makeSelfSignedRoot(trustDomain(), Date.now()), Date.now()),
    );
    csr = await newCsr(id('front'));
  });
  const request = (identity: SpiffeId, number = 1): CertificateRequest => ({
    kind: 'certificate-request',
    id: number,
    identity,
    csr,
  });
  const server = (changes: Partial<CertificateServerOptions> = {}) => {
    const { pods } = createSources();
    const put = (facts: Parameters<typeof aPod>[0]) => {
      const pod = decoded(decodePod, aPod(facts));
      pods.set(`${pod.meta.namespace}/${pod.meta.name}`, pod);
    };
    put({ name: 'z', namespace: 'istio-system', serviceAccount: 'ztunnel', uid: 'z' });
    put({ name: 'front-1', serviceAccount: 'front' });
    const created = createCertificateServer({
      authority: () => authority,
      authenticate: () => Promise.resolve({ ok: true, value: caller }),
      authorization: {
        trustDomain: trustDomain(),
        trustedAccounts: new Set(['istio-system/ztunnel']),
        gatewayAccount: () => undefined,
      },
      pods: {
        podByName: (namespace, name) => pods.get(`${namespace}/${name}`),
        runsOnNode: (node, namespace, account) =>
          pods.find('account', `${node}/${namespace}/${account}`).length > 0,
      },
      ttlMs: 3_600_000,
      nowMs: Date.now,
      log: memoryLog(),
      ...changes,
    });
    return { created, pods, put };
  };

  type Cluster = ReturnType<typeof server>;
  /** Lets something happen in the middle of a request; `happen` must come exactly once. */
  const moments: Readonly<
    Record<string, (happen: () => void) => Partial<CertificateServerOptions>>
  > = {
    'while its token is reviewed': (happen) => ({
      authenticate: async () => {
        await new Promise(setImmediate);
        happen();
        return { ok: true, value: caller };
      },
    }),
    'between who asks and what is signed': (happen) => {
      let looks = 0;
      return {
        nowMs: () => {
          // First it is asked whether the authority is valid.
          if ((looks += 1) === 2) happen();
          return Date.now();
        },
      };
    },
    'while it is signed': (happen) => ({
      nowMs: (() => {
        let looks = 0;
        return () => {
          if ((looks += 1) === 2) setImmediate(happen);
          return Date.now();
        };
      })(),
    }),
  };
  const front = { name: 'front-1', serviceAccount: 'front' };
  const proxy = { name: 'z', namespace: 'istio-system', serviceAccount: 'ztunnel' };
  const happenings: Readonly<Record<string, readonly [(on: Cluster) => void, string]>> = {
    'the pod goes': [({ pods }) => pods.delete('shop/front-1'), 'identity-not-on-node'],
    'the pod ends': [({ put }) => put({ ...front, phase: 'Failed' }), 'identity-not-on-node'],
    'the pod is made again on another node': [
      ({ put }) => put({ ...front, node: 'node-b' }),
      'identity-not-on-node',
    ],
    'the pod is made again for another account': [
      ({ put }) => put({ ...front, serviceAccount: 'other' }),
      'identity-not-on-node',
    ],
    'the proxy goes': [({ pods }) => pods.delete('istio-system/z'), 'caller-pod-unknown'],
    'the proxy ends': [
      ({ put }) => put({ ...proxy, uid: 'z', phase: 'Succeeded' }),
      'caller-pod-ended',
    ],
    'another proxy has its name': [({ put }) => put(proxy), 'caller-pod-replaced'],
    'another proxy has its name, on another node': [
      ({ put }) => put({ ...proxy, node: 'node-b' }),
      'caller-pod-replaced',
    ],
  };
  test.each(
    Object.keys(moments).flatMap((moment) => Object.keys(happenings).map((what) => [what, moment])),
  )('%s %s: no certificate', async (what, moment) => {
    const [change, reason] = happenings[what]!;
    const log = memoryLog();
    let happened = 0;
    const happen = (): void => {
      happened += 1;
      change(on);
    };
    const on = server({ log, ...moments[moment]!(happen) });
    const answer = await on.created.connect('t').request(request(id('front')));
    expect(happened).toBe(1);
    expect(answer).toMatchObject({ kind: 'certificate-refused', code: 'unauthenticated' });
    expect(JSON.stringify(log)).toContain(reason);
  });
  test.each(Object.keys(moments))(
    'a pod goes to another node %s, and another of its account stays: its identity is there still',
    async (moment) => {
      const happen = (): void => on.put({ ...front, node: 'node-b' });
      const on = server(moments[moment]!(happen));
      on.put({ name: 'front-2', serviceAccount: 'front' });
      const answer = await on.created.connect('t').request(request(id('front')));
      expect(answer.kind).toBe('certificate');
    },
  );
  test('TokenReview away: unavailable', async () => {
    const error = { code: 'unavailable', reason: 'away' } as const;
    const { created } = server({ authenticate: () => Promise.resolve({ ok: false, error }) });
    expect(await created.connect('t').request(request(id('front')))).toMatchObject({
      code: 'unavailable',
    });
  });
  test('no authority yet: unavailable', async () => {
    const { created } = server({ authority: () => undefined });
    expect(await created.connect('t').request(request(id('front')))).toMatchObject({
      code: 'unavailable',
    });
  });
  test.each([
    'spiffe://cluster.local/ns/shop/sa/../sa/front',
    'spiffe://cluster.local/ns/shop',
    'https://x',
    '',
  ])('the identity %j is a bad request', async (identity) => {
    const { created } = server();
    expect(await created.connect('t').request(request(identity as SpiffeId))).toMatchObject({
      code: 'bad-request',
    });
  });
  test('one proxy cannot fill the queue', async () => {
    const { created } = server();
    const client = created.connect('t');
    const answers = await Promise.all(
      Array.from({ length: 300 }, (_, index) => client.request(request(id('front'), index))),
    );
    const busy = answers.filter((answer) => answer.kind === 'certificate-refused');
    expect(busy).toHaveLength(300 - 256);
    expect(new Set(busy.map((answer) => answer.code))).toEqual(new Set(['unavailable']));
    expect((await client.request(request(id('front')))).kind).toBe('certificate');
  }, 60_000);
  test('a thousand identities of twenty nodes at once: all within fifteen seconds of CPU', async () => {
    const { created, put } = server();
    for (let index = 0; index < 1000; index += 1)
      put({ name: `p-${index}`, serviceAccount: `a-${index}` });
    // What it costs, and not what else runs on this machine or collects garbage in this process.
    const before = process.threadCpuUsage();
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, node) => created.connect(`t-${node}`)).flatMap(
        (client, node) =>
          Array.from({ length: 50 }, (_, index) =>
            client.request(request(id(`a-${node * 50 + index}`), index)),
          ),
      ),
    );
    const { user, system } = process.threadCpuUsage(before);
    const ms = (user + system) / 1000;
    process.stdout.write(`signed ${answers.length} certificates in ${ms.toFixed(0)} ms of CPU\n`);
    expect(answers.every((answer) => answer.kind === 'certificate')).toBe(true);
    expect(ms).toBeLessThan(15_000);
  }, 60_000);
});
