import type { ServerResponse } from 'node:http';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

import { listening, makeRoom } from '@ambit/core';

/** What the controller's own port shows: read-only, and no key. */
export interface AdminOptions {
  readonly host: string | undefined;
  readonly port: number;
  /** What is still awaited; empty when ready. */
  readonly pending: () => readonly string[];
  readonly metrics: () => Promise<{ readonly contentType: string; readonly text: string }>;
  readonly debug: ReadonlyMap<string, () => unknown>;
}

export interface Admin {
  readonly address: AddressInfo;
  close(): Promise<void>;
}

const timeoutMs = 10_000;
const maxConnections = 128;

/** Metrics and readiness for everyone; debug views, which name what runs in every namespace, for loopback only. */
export async function startAdmin(options: AdminOptions): Promise<Admin> {
  const server = createServer({ requestTimeout: timeoutMs, headersTimeout: timeoutMs });
  makeRoom(server, maxConnections);
  server.on('request', (request, response) => {
    request.resume();
    const path = (request.url ?? '/').split('?')[0] ?? '/';
    const local = isLoopback(request.socket.remoteAddress) && isLocalName(request.headers.host);
    answer(request.method ?? '', path, local, options).then(
      ({ status, text, type }) => write(response, status, text, type),
      () => write(response, 500, 'failed\n'),
    );
  });
  const address = await listening(server, options);
  return {
    address,
    close: async () => {
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

interface Answer {
  readonly status: number;
  readonly text: string;
  readonly type?: string;
}

async function answer(
  method: string,
  path: string,
  local: boolean,
  options: AdminOptions,
): Promise<Answer> {
  if (method !== 'GET' && method !== 'HEAD') return { status: 405, text: 'GET only\n' };
  if (path === '/metrics') {
    const { contentType, text } = await options.metrics();
    return { status: 200, text, type: contentType };
  }
  if (path === '/healthz/live' || path === '/healthz') return { status: 200, text: 'ok\n' };
  if (path === '/healthz/ready' || path === '/ready') {
    const pending = options.pending();
    if (pending.length === 0) return { status: 200, text: 'ready\n' };
    return { status: 503, text: `waiting for ${pending.join(', ')}\n` };
  }
  if (!path.startsWith('/debug/')) return { status: 404, text: 'not found\n' };
  if (!local) return { status: 403, text: 'debug views are for loopback only\n' };
  const view = options.debug.get(path.slice('/debug/'.length));
  if (view === undefined) {
    return { status: 404, text: `views: ${[...options.debug.keys()].join(', ')}\n` };
  }
  return {
    status: 200,
    text: `${JSON.stringify(view(), mapsAsObjects, 2)}\n`,
    type: 'application/json',
  };
}

function mapsAsObjects(_key: string, value: unknown): unknown {
  return value instanceof Map ? Object.fromEntries(value as Map<string, unknown>) : value;
}

function isLoopback(address: string | undefined): boolean {
  return address !== undefined && /^(?:::1|(?:::ffff:)?127\.\d+\.\d+\.\d+)$/.test(address);
}

/** A page in somebody's browser may be led to loopback by a name of its own. */
function isLocalName(host: string | undefined): boolean {
  return /^(?:localhost|127\.0\.0\.1|\[::1\])(?::\d+)?$/.test(host ?? '');
}

function write(
  response: ServerResponse,
  status: number,
  text: string,
  type = 'text/plain; charset=utf-8',
): void {
  response.writeHead(status, { 'content-type': type, 'x-content-type-options': 'nosniff' });
  response.end(text);
}
