import { writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Controller, ControllerConfig, ControllerDeps } from '@ambit/controller';
import { crds, parseConfig, startController } from '@ambit/controller';
import { envOf } from '@ambit/core';
import { parseAllDocuments, stringify } from 'yaml';
import type { TestApi } from './api-server.ts';
import { startTestApi } from './api-server.ts';
import type { Kubectl } from './kubectl.ts';
import { createKubectl, kubectlPath } from './kubectl.ts';

const manifest = fileURLToPath(new URL('../../manifests/mesh.yaml', import.meta.url));
const programs = new Set(['Deployment', 'DaemonSet']);

/** Everything of the mesh but its programs: schemas, accounts, rights, the webhook's configuration. */
export async function installMesh(kubectl: Kubectl): Promise<void> {
  await kubectl.out(['create', 'namespace', 'istio-system']);
  const definitions = crds().map((crd) => JSON.stringify(crd));
  await kubectl.out(['apply', '--server-side', '-f', '-'], definitions.join('\n---\n'));
  const documents = parseAllDocuments(await readFile(manifest, 'utf8'))
    .map((one) => one.toJS() as { kind: string })
    .filter(({ kind }) => !programs.has(kind));
  await kubectl.out(
    ['apply', '-f', '-'],
    documents.map((one) => stringify(one, { aliasDuplicateObjects: false })).join('---\n'),
  );
}

/** An API with the mesh but its programs and a namespace `shop`, for controllers that are started beside it. */
export async function startMeshApi(): Promise<{
  readonly running: TestApi;
  readonly kubectl: Kubectl;
}> {
  const running = await startTestApi();
  const { server, ca, api } = running;
  const kubectl = createKubectl(kubectlPath('1.34'), { server, ca, token: api.tokens.adminToken });
  await installMesh(kubectl);
  // Nobody is there who would tell the API server where a webhook is.
  await kubectl.out(['delete', 'validatingwebhookconfiguration/ambit-validator']);
  await kubectl.out(['create', 'namespace', 'shop']);
  return { running, kubectl };
}

export interface LogLine {
  readonly level: string;
  readonly fields: object;
  readonly message: string;
}

export interface TestController {
  readonly controller: Controller;
  readonly log: readonly LogLine[];
}

/** A controller in this process, under its own account and with no more rights than the manifest gives it. */
export async function startTestController(
  { server, ca }: TestApi,
  kubectl: Kubectl,
  folder: string,
  changes: Partial<ControllerConfig> = {},
  deps: Partial<ControllerDeps> = {},
): Promise<TestController> {
  const token = await kubectl.out(['create', 'token', 'ambit-controller', '-n', 'istio-system']);
  const kubeconfig = join(folder, 'controller.kubeconfig');
  const certificate = Buffer.from(ca).toString('base64');
  const cluster = { server, 'certificate-authority-data': certificate };
  writeFileSync(
    kubeconfig,
    JSON.stringify({
      clusters: [{ name: 'c', cluster }],
      users: [{ name: 'u', user: { token: token.trim() } }],
      contexts: [{ name: 'x', context: { cluster: 'c', user: 'u' } }],
      'current-context': 'x',
    }),
  );
  const log: LogLine[] = [];
  const at = (level: string) => (fields: object, message: string) =>
    void log.push({ level, fields, message });
  const ports = { controlPort: 0, metricsPort: 0, webhookPort: 0, host: '127.0.0.1' };
  const controller = await startController(
    { ...parseConfig(envOf({ KUBECONFIG: kubeconfig })), ...ports, ...changes },
    {
      log: { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') },
      ...deps,
    },
  );
  return { controller, log };
}
