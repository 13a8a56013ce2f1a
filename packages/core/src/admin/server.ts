import type { IncomingMessage, RequestListener, Server, ServerResponse } from 'node:http';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { listening } from '../net/listen.ts';
import { makeRoom } from '../net/make-room.ts';
import type { Logger } from '../observe/logger.ts';
import { logLevels } from '../observe/logger.ts';
import type { Metrics } from '../observe/metrics.ts';
import type { Readiness } from '../lifecycle/readiness.ts';

export interface AdminOptions {
  readonly adminPort: number;
  readonly metricsPort: number;
  readonly readinessPort: number;
  readonly metrics: Metrics;
  readonly readiness: Readiness;
  readonly logger: Logger;
  /** Everything the program knows, for people; must hold no key. */
  readonly configDump: () => unknown;
  /** Asks the program to stop; `POST /quitquitquit` on the admin port. */
  readonly quit: () => void;
}

export interface AdminServers {
  readonly admin: AddressInfo;
  readonly metrics: AddressInfo;
  readonly readiness: AddressInfo;
  close(): Promise<void>;
}

const requestTimeoutMs = 10_000;
const maxConnections = 128;

/** Three ports: admin (loopback only), metrics and readiness, as Istio's proxies have them (contracts.md §2). */
export async function startAdmin(options: AdminOptions): Promise<AdminServers> {
  const servers: Server[] = [];
  const started = async (routes: RequestListener, host: string | undefined, port: number) => {
    const server = await serve(routes, host, port);
    servers.push(server);
    return server.address() as AddressInfo;
  };
  let addresses: Omit<AdminServers, 'close'>;
  try {
    addresses = {
      admin: await started(adminRoutes(options), '127.0.0.1', options.adminPort),
      metrics: await started(metricsRoutes(options), undefined, options.metricsPort),
      readiness: await started(readinessRoutes(options), undefined, options.readinessPort),
    };
  } catch (error) {
    await Promise.all(servers.map(closed));
    throw error;
  }
  return {
    ...addresses,
    async close() {
      await Promise.all(servers.map(closed));
    },
  };
}

function adminRoutes({ configDump, logger, quit }: AdminOptions): RequestListener {
  return (request, response) => {
    // A page in somebody's browser can be made to call loopback under a name of its own (DNS rebinding).
    if (!/^(?:localhost|127\.0\.0\.1|\[::1\])(?::\d+)?$/.test(request.headers.host ?? '')) {
      answer(response, 403, 'the admin port answers to localhost only\n');
      return;
    }
    const url = new URL(request.url ?? '/', 'http://localhost');
    switch (`${request.method ?? ''} ${url.pathname}`) {
      case 'GET /':
        answer(
          response,
          200,
          'GET /config_dump\nGET /healthz\nGET /logging\nPOST /logging?level=LEVEL\nPOST /quitquitquit\n',
        );
        return;
      case 'GET /healthz':
        answer(response, 200, 'ok\n');
        return;
      case 'GET /config_dump':
        answer(response, 200, `${JSON.stringify(configDump(), null, 2)}\n`, 'application/json');
        return;
      case 'GET /logging':
        answer(response, 200, `${logger.level}\n`);
        return;
      case 'POST /logging':
        setLevel(url.searchParams.get('level') ?? '', logger, response);
        return;
      case 'POST /quitquitquit':
        answer(response, 200, 'stopping\n');
        quit();
        return;
      default:
        answer(response, 404, 'GET / lists what there is\n');
    }
  };
}

function setLevel(level: string, logger: Logger, response: ServerResponse): void {
  if (!logLevels.some((known) => known === level)) {
    answer(response, 400, `level is one of ${logLevels.join(', ')}\n`);
    return;
  }
  logger.level = level;
  answer(response, 200, `${level}\n`);
}

function metricsRoutes({ metrics, logger }: AdminOptions): RequestListener {
  return (request, response) => {
    if (request.url !== '/metrics' && request.url !== '/stats/prometheus') {
      answer(response, 404, 'GET /metrics\n');
      return;
    }
    metrics.render().then(
      (text) => answer(response, 200, text, metrics.contentType),
      (error: unknown) => {
        logger.error({ err: error }, 'metrics cannot be rendered');
        answer(response, 500, 'metrics cannot be rendered\n');
      },
    );
  };
}

function readinessRoutes({ readiness }: AdminOptions): RequestListener {
  return (request, response) => {
    // The answer itself says it: whoever cannot give it for a minute serves nobody either.
    if (request.url === '/healthz/live') answer(response, 200, 'live\n');
    else if (request.url !== '/healthz/ready')
      answer(response, 404, 'GET /healthz/ready\nGET /healthz/live\n');
    else if (readiness.ready) answer(response, 200, 'ready\n');
    else answer(response, 503, `waiting for ${readiness.pending.join(', ')}\n`);
  };
}

function answer(
  response: ServerResponse,
  status: number,
  body: string,
  type = 'text/plain; charset=utf-8',
): void {
  response.writeHead(status, { 'content-type': type, 'x-content-type-options': 'nosniff' });
  response.end(body);
}

async function serve(
  routes: RequestListener,
  host: string | undefined,
  port: number,
): Promise<Server> {
  const server = createServer(
    { requestTimeout: requestTimeoutMs, headersTimeout: requestTimeoutMs },
    (request: IncomingMessage, response) => {
      request.resume();
      routes(request, response);
    },
  );
  makeRoom(server, maxConnections);
  await listening(server, { host, port });
  return server;
}

function closed(server: Server): Promise<void> {
  server.closeAllConnections();
  return new Promise((resolve) => server.close(() => resolve()));
}
