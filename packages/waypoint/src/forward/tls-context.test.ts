import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import type { TestCa } from '@ambit/testkit';
import { makeTestCa } from '@ambit/testkit';
import { TlsContexts } from './tls-context.ts';

let folder: string;
let ca: TestCa;
let nowMs = 1_000_000;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'ambit-contexts-'));
  ca = await makeTestCa();
});
afterAll(() => rmSync(folder, { recursive: true }));

const path = (name: string): string => join(folder, name);

async function renew(): Promise<void> {
  const { chain, privateKey } = await ca.issue('spiffe://partner.test/ns/a/sa/b');
  writeFileSync(path('cert.pem'), chain.join('\n'));
  writeFileSync(path('key.pem'), privateKey);
  writeFileSync(path('ca.pem'), ca.rootPem);
}

const tls = () => ({
  mode: 'mutual' as const,
  subjectAltNames: [],
  insecureSkipVerify: false,
  source: {
    kind: 'files' as const,
    ca: path('ca.pem'),
    certificate: path('cert.pem'),
    privateKey: path('key.pem'),
  },
});

test('files that are renewed are taken up without a restart, and read once for many connections', async () => {
  await renew();
  const contexts = new TlsContexts(
    () => undefined,
    () => nowMs,
  );
  const first = await contexts.contextOf(tls());
  await renew();
  expect(await contexts.contextOf(tls())).toBe(first);
  nowMs += 10_001;
  const second = await contexts.contextOf(tls());
  expect(second).not.toBe(first);
  // Looked at again, and the same.
  nowMs += 10_001;
  expect(await contexts.contextOf(tls())).toBe(second);
});

test('files that are broken or gone after a while are told, and nothing old is used in their place', async () => {
  await renew();
  const contexts = new TlsContexts(
    () => undefined,
    () => nowMs,
  );
  await contexts.contextOf(tls());
  nowMs += 10_001;
  writeFileSync(path('key.pem'), 'nothing of the kind');
  await expect(contexts.contextOf(tls())).rejects.toThrow(/^the files cannot be used: ERR_OSSL/);
  rmSync(path('cert.pem'));
  await expect(contexts.contextOf(tls())).rejects.toThrow(/cert\.pem cannot be read: ENOENT/);
  await renew();
  await expect(contexts.contextOf(tls())).resolves.toBeDefined();
});
