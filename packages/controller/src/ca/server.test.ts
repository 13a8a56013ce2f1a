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

  test('a pod that goes while its certificate is made gets none', async () => {
    const { created, pods } = server();
    const pending = created.connect('t').request(request(id('front')));
    setImmediate(() => pods.delete('shop/front-1'));
    expect(await pending).toMatchObject({ kind: 'certificate-refused', code: 'unauthenticated' });
  });
  test('a proxy whose pod goes meanwhile gets none', async () => {
    const { created, pods } = server();
    const pending = created.connect('t').request(request(id('front')));
    setImmediate(() => pods.delete('istio-system/z'));
    expect(await pending).toMatchObject({ kind: 'certificate-refused', code: 'unauthenticated' });
  });
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
    // What it costs, and not what else runs on this machine.
    const before = process.cpuUsage();
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, node) => created.connect(`t-${node}`)).flatMap(
        (client, node) =>
          Array.from({ length: 50 }, (_, index) =>
            client.request(request(id(`a-${node * 50 + index}`), index)),
          ),
      ),
    );
    const { user, system } = process.cpuUsage(before);
    const ms = (user + system) / 1000;
    process.stdout.write(`signed ${answers.length} certificates in ${ms.toFixed(0)} ms of CPU\n`);
    expect(answers.every((answer) => answer.kind === 'certificate')).toBe(true);
    expect(ms).toBeLessThan(15_000);
  }, 60_000);
});
