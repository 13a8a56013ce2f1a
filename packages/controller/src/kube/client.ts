import * as http from 'node:http';
import * as https from 'node:https';

import { KubeConfig } from '@kubernetes/client-node';

import { KubeError } from './error.ts';

export type HttpMethod = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';

export interface KubeRequest {
  readonly method?: HttpMethod;
  /** Path below the server's address, for example `/api/v1/pods`. */
  readonly path: string;
  readonly query?: ReadonlyMap<string, string>;
  /** Media types that are taken as the answer; JSON in any form by default. */
  readonly accept?: string;
  readonly body?: unknown;
  /** Media type of `body`; the patch types differ only by it. */
  readonly contentType?: string;
  readonly signal?: AbortSignal;
  /** Milliseconds until the whole answer must be there. */
  readonly timeoutMs?: number;
}

/** The Kubernetes API as this package uses it; errors are `KubeError`. */
export interface KubeClient {
  /** One call with a JSON answer. */
  request(request: KubeRequest): Promise<unknown>;
  /** One call whose answer is read line by line as it comes; ends with the answer. */
  lines(request: KubeRequest, onActivity: () => void): AsyncIterable<string>;
  close(): void;
}

const requestTimeoutMs = 30_000;
/** A page of a list is at most 500 objects of at most 1.5 MiB in etcd; real ones are far smaller. */
const maxAnswerBytes = 256 * 1024 * 1024;
const maxLineChars = 16 * 1024 * 1024;
const socketKeepAliveMs = 15_000;

/** Loads the configuration of the surrounding pod, or of the given kubeconfig file. */
export function loadKubeConfig(kubeconfig: string | undefined): KubeConfig {
  const config = new KubeConfig();
  if (kubeconfig === undefined) config.loadFromCluster();
  else config.loadFromFile(kubeconfig);
  return config;
}

/**
 * Our own requests with client-node's configuration: its typed calls make a new connection pool for every request,
 * and its watch drops undecodable lines silently.
 */
export function createKubeClient(config: KubeConfig): KubeClient {
  const agents = {
    http: new http.Agent({ keepAlive: true }),
    https: new https.Agent({ keepAlive: true }),
  };
  const open = (request: KubeRequest): Promise<http.IncomingMessage> =>
    send(config, agents, request);
  return {
    request: async (request) => {
      const timeout = AbortSignal.timeout(request.timeoutMs ?? requestTimeoutMs);
      const signals = request.signal === undefined ? [timeout] : [timeout, request.signal];
      const answer = await open({ ...request, signal: AbortSignal.any(signals) });
      const text = await readAll(answer, request);
      return checkedJson(answer, text, request);
    },
    lines: (request, onActivity) => streamLines(open, request, onActivity),
    close: () => {
      agents.http.destroy();
      agents.https.destroy();
    },
  };
}

async function send(
  config: KubeConfig,
  agents: { readonly http: http.Agent; readonly https: https.Agent },
  request: KubeRequest,
): Promise<http.IncomingMessage> {
  const cluster = config.getCurrentCluster();
  if (cluster === null) {
    throw new KubeError('the kubeconfig names no current cluster; set current-context', {});
  }
  const options: https.RequestOptions = {};
  await config.applyToHTTPSOptions(options);
  const url = new URL(cluster.server.replace(/\/+$/, '') + request.path);
  for (const [name, value] of request.query ?? []) url.searchParams.set(name, value);
  const secure = url.protocol === 'https:';
  // With a proxy the agent of client-node knows the way; without one ours reuses connections.
  if (cluster.proxyUrl === undefined || cluster.proxyUrl === '') {
    options.agent = secure ? agents.https : agents.http;
  }
  const body = request.body === undefined ? undefined : JSON.stringify(request.body);
  options.method = request.method ?? 'GET';
  options.headers = {
    accept: request.accept ?? 'application/json',
    ...(options.headers as http.OutgoingHttpHeaders | undefined),
    ...(body === undefined
      ? {}
      : {
          'content-type': request.contentType ?? 'application/json',
          'content-length': Buffer.byteLength(body),
        }),
  };
  if (request.signal !== undefined) options.signal = request.signal;
  const attempt = (again: boolean): Promise<http.IncomingMessage> =>
    new Promise((resolve, reject) => {
      const own = again ? options : { ...options, agent: false as const };
      const outgoing = (secure ? https : http).request(url, own, resolve);
      outgoing.on('error', (cause: NodeJS.ErrnoException) => {
        // The server closed a connection that was idle, in the very moment in which it was used again.
        const wasIdle = outgoing.reusedSocket && cause.code === 'ECONNRESET';
        if (again && wasIdle && options.method === 'GET') resolve(attempt(false));
        else reject(new KubeError(`${label(request)}: ${cause.message}`, { cause }));
      });
      outgoing.on('socket', (socket) => socket.setKeepAlive(true, socketKeepAliveMs));
      outgoing.end(body);
    });
  return attempt(true);
}

async function* streamLines(
  open: (request: KubeRequest) => Promise<http.IncomingMessage>,
  request: KubeRequest,
  onActivity: () => void,
): AsyncGenerator<string, void, undefined> {
  const answer = await open(request);
  if (answer.statusCode !== 200) {
    checkedJson(answer, await readAll(answer, request), request);
    return;
  }
  onActivity();
  let rest = '';
  try {
    answer.setEncoding('utf8');
    for await (const chunk of answer as AsyncIterable<string>) {
      onActivity();
      const lines = (rest + chunk).split('\n');
      rest = lines.pop() ?? '';
      if (rest.length > maxLineChars) {
        throw new KubeError(
          `${label(request)}: a line of more than ${maxLineChars} characters`,
          {},
        );
      }
      for (const line of lines) if (line.trim() !== '') yield line;
    }
  } finally {
    answer.destroy();
  }
}

async function readAll(answer: http.IncomingMessage, request: KubeRequest): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of answer as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > maxAnswerBytes) throw new Error(`more than ${maxAnswerBytes} bytes`);
      chunks.push(chunk);
    }
  } catch (cause) {
    answer.destroy();
    throw new KubeError(`${label(request)}: the answer broke off`, { cause });
  }
  return Buffer.concat(chunks).toString('utf8');
}

function checkedJson(answer: http.IncomingMessage, text: string, request: KubeRequest): unknown {
  const status = answer.statusCode ?? 0;
  let parsed: unknown;
  try {
    parsed = text === '' ? undefined : JSON.parse(text);
  } catch (cause) {
    throw new KubeError(`${label(request)}: HTTP ${status}, and the answer is no JSON`, {
      status: status >= 400 ? status : 0,
      cause,
    });
  }
  if (status >= 200 && status < 300) return parsed;
  const told = statusOf(parsed);
  const seconds = Number(answer.headers['retry-after']);
  throw new KubeError(`${label(request)}: HTTP ${status} ${told.message}`.trimEnd(), {
    status,
    reason: told.reason,
    retryAfterMs: Number.isFinite(seconds) && seconds > 0 ? seconds * 1000 : undefined,
  });
}

/** Reason and message of a `Status` object. */
export function statusOf(object: unknown): { code: number; reason: string; message: string } {
  const status = (typeof object === 'object' && object !== null ? object : {}) as {
    code?: unknown;
    reason?: unknown;
    message?: unknown;
  };
  return {
    code: typeof status.code === 'number' ? status.code : 0,
    reason: typeof status.reason === 'string' ? status.reason.slice(0, 100) : '',
    message: typeof status.message === 'string' ? status.message.slice(0, 500) : '',
  };
}

function label(request: KubeRequest): string {
  return `${request.method ?? 'GET'} ${request.path}`;
}
