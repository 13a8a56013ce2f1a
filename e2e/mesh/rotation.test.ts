import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import type { MeshCluster } from '../support/cluster.ts';
import { startMesh, until } from '../support/cluster.ts';
import { sleep, underLoad } from '../support/load.ts';

/** Another root for the mesh, in the three phases of docs/certificates.md, under load. */
let mesh: MeshCluster;
const root = '/api/v1/namespaces/istio-system';

beforeAll(async () => {
  mesh = await startMesh();
  for (const namespace of ['shop', 'clients'])
    await mesh.cluster.label(namespace, 'istio.io/dataplane-mode', 'ambient');
  const made = await mesh.ctl('waypoint', 'apply', '-n', 'shop', '--enroll-namespace', '--wait');
  expect(made.status).toBe(0);
  await until(
    async () => (await mesh.ask('http://reviews.shop:8080/'))[0]?.status === 200 || undefined,
    30_000,
  );
}, 120_000);

/** The way back: who comes after finds the mesh with the authority that it had. */
let back: readonly Phase[] = [];

afterAll(async () => {
  await rotate(back);
  await mesh.clean();
  await mesh.close();
}, 240_000);

interface Authority {
  readonly certificate: string;
  readonly key: string;
}

type Phase = readonly [signer: Authority, roots: readonly string[]];

async function ownAuthority(): Promise<Authority> {
  const { data } = (await mesh.get(`${root}/secrets/istio-ca-secret`)) as {
    data: Record<string, string>;
  };
  const read = (name: string) => Buffer.from(data[name] ?? '', 'base64').toString('utf8');
  return { certificate: read('ca-cert.pem'), key: read('ca-key.pem') };
}

function newAuthority(): Authority {
  const folder = mkdtempSync(join(tmpdir(), 'ambit-root-'));
  const [certificate, key] = ['root.pem', 'key.pem'].map((name) => join(folder, name)) as [
    string,
    string,
  ];
  try {
    execFileSync(
      'openssl',
      [
        ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'],
        ...['-subj', '/O=new', '-days', '30', '-keyout', key, '-out', certificate],
        ...['-addext', 'keyUsage=critical,keyCertSign,cRLSign'],
      ],
      { stdio: 'ignore' },
    );
    return { certificate: readFileSync(certificate, 'utf8'), key: readFileSync(key, 'utf8') };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const base64 = (text: string): string => Buffer.from(text).toString('base64');

/** The Secret with which users plug in an authority. */
function cacerts(signer: Authority, roots: readonly string[]): object {
  return {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name: 'cacerts', namespace: 'istio-system' },
    data: {
      'ca-cert.pem': base64(signer.certificate),
      'ca-key.pem': base64(signer.key),
      'root-cert.pem': base64(roots.join('')),
    },
  };
}

/** Every certificate of every node proxy is younger than this. */
async function renewedSince(atMs: number): Promise<void> {
  await until(async () => {
    const pods = (await mesh.cluster.pods('istio-system')).filter(({ name }) =>
      name.startsWith('ztunnel'),
    );
    const ages = await Promise.all(
      pods.map(async ({ name }) => {
        const script =
          "fetch('http://127.0.0.1:15000/config_dump').then(async (a) => console.log(await a.text()))";
        const { output } = await mesh.cluster.exec('istio-system', name, ['node', '-e', script]);
        const { certificates } = JSON.parse(output) as {
          certificates: { notAfter?: string }[];
        };
        // Each lives for 24 hours.
        return certificates.map(({ notAfter }) => Date.parse(notAfter ?? '') - 24 * 3_600_000);
      }),
    );
    return ages.flat().every((madeAt) => madeAt >= atMs - 2_000) || undefined;
  }, 60_000);
}

/** Each phase, until all nodes have it. */
async function rotate(phases: readonly Phase[]): Promise<void> {
  for (const [signer, roots] of phases) {
    const startedAt = Date.now();
    await mesh.apply(cacerts(signer, roots));
    await renewedSince(startedAt);
    await sleep(2_000);
  }
}

test('TestRootRotation: trust both, sign with the new one, drop the old one: no request fails', async () => {
  const before = await ownAuthority();
  const after = newAuthority();
  const both = [before.certificate, after.certificate];
  const phases: readonly Phase[] = [
    [before, both],
    [after, both],
    [after, [after.certificate]],
  ];
  back = [
    [after, both],
    [before, both],
    [before, [before.certificate]],
  ];
  const { ok, failed, errors } = await underLoad(
    mesh,
    'http://catalog.shop:8080/',
    () => rotate(phases),
    { limitSeconds: 240 },
  );
  expect({ failed, errors }).toEqual({ failed: 0, errors: [] });
  expect(ok).toBeGreaterThan(100);
  const published = (await mesh.get(`${root}/configmaps/istio-ca-root-cert`)) as {
    data: Record<string, string>;
  };
  expect(published.data['root-cert.pem']?.trim()).toBe(after.certificate.trim());
  // New connections are judged by the new root alone.
  for (const url of ['http://reviews.shop:8080/', 'http://catalog.shop:8080/'])
    expect((await mesh.ask(url))[0]?.status).toBe(200);
}, 300_000);
