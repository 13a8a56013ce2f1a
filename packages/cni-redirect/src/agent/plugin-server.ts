import { chmodSync, rmSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:http';
import { dirname } from 'node:path';
import type { IpAddress } from '@ambit/api';
import { parseIp } from '@ambit/api';
import type { Logger, Metrics } from '@ambit/core';
import { causeChain } from '@ambit/core';
import type { Pods } from './pods.ts';
import type { StartingPod } from './starting.ts';

const maxBodyBytes = 64 * 1024;

export interface PluginServerOptions {
  readonly path: string;
  readonly pods: Pods;
  readonly metrics: Metrics;
  readonly logger: Logger;
}

/** Answers the CNI plugin on a unix socket: 200 lets the pod start, anything else makes the runtime try again. */
export async function startPluginServer(
  options: PluginServerOptions,
): Promise<{ close(): Promise<void> }> {
  await mkdir(dirname(options.path), { recursive: true, mode: 0o700 });
  rmSync(options.path, { force: true });
  const requests = options.metrics.counter(
    'istio_cni_plugin_requests_total',
    'Calls of the CNI plugin, by answer.',
    ['response_code'],
  );
  const server = createServer((request, response) => {
    void answer(request, response, options).then((status) =>
      requests.inc({ response_code: String(status) }),
    );
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(options.path, resolve);
  });
  server.on('error', (error) =>
    options.logger.error({ err: error }, 'the socket for the plugin failed'),
  );
  chmodSync(options.path, 0o600);
  return {
    close: () => {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  options: PluginServerOptions,
): Promise<number> {
  const [status, text] = await outcome(request, options);
  response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8' });
  response.end(text);
  return status;
}

async function outcome(
  request: IncomingMessage,
  { pods, logger }: PluginServerOptions,
): Promise<[number, string]> {
  const { url } = request;
  if (request.method !== 'POST' || (url !== '/cmdadd' && url !== '/cmdcheck'))
    return [404, 'POST /cmdadd or /cmdcheck'];
  let start: StartingPod;
  try {
    start = readStart(JSON.parse(await body(request)));
  } catch (error) {
    return [400, causeChain(error)];
  }
  const pod = `${start.namespace}/${start.name}`;
  try {
    const decision = await (url === '/cmdadd' ? pods.starting(start) : pods.check(start));
    return [200, decision.enrolled ? 'enrolled' : decision.why];
  } catch (error) {
    const [event, text] =
      url === '/cmdadd'
        ? ['pod may not start', `pod ${pod} cannot join the mesh`]
        : ['pod is not as it should be', `pod ${pod} is not as its labels want it`];
    logger.warn({ pod, reason: causeChain(error) }, event);
    return [503, `${text}: ${causeChain(error)}`];
  }
}

async function body(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > maxBodyBytes) throw new Error('the request is too long');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** Names are those of Istio's plugin (contracts.md §3). */
function readStart(value: unknown): StartingPod {
  if (typeof value !== 'object' || value === null) throw new Error('the request is no object');
  const fields = new Map<string, unknown>(Object.entries(value));
  const text = (name: string, required = true): string => {
    const found = fields.get(name);
    if (typeof found === 'string' && (found !== '' || !required)) return found;
    if (!required && found === undefined) return '';
    throw new Error(`${name} is missing`);
  };
  const ips = fields.get('IPs');
  const addresses = (Array.isArray(ips) ? (ips as unknown[]) : []).map(readAddress);
  return {
    namespace: text('PodNamespace'),
    name: text('PodName'),
    uid: text('PodUID', false),
    netns: text('Netns'),
    netnsInode: text('NetnsInode', false) || undefined,
    addresses,
  };
}

function readAddress(value: unknown): IpAddress {
  const address =
    typeof value === 'object' && value !== null && 'Address' in value ? String(value.Address) : '';
  const ip = parseIp(address.split('/')[0] ?? '');
  if (!ip.ok) throw new Error(`IPs: ${ip.error.message}`);
  return ip.value;
}
