import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { describe, type ClusterLogger } from '../../cluster/work-queue.ts';
import type { Container } from '../container.ts';
import type { Kubelet } from '../kubelet.ts';
import type { PodWorker } from '../pod.ts';
import { execOptions, failure, runAttach, runExec } from './exec.ts';
import { parseLogOptions, streamLog } from './log.ts';
import { acceptSpdy } from './spdy-exec.ts';
import { acceptWebSocket, offersChannels } from './websocket.ts';

export interface PodSubresource {
  readonly namespace: string;
  readonly name: string;
  readonly subresource: 'log' | 'exec' | 'attach' | 'portforward';
  readonly query: URLSearchParams;
}

/** What an API server hands over to the kubelet of a pod: it has authenticated and authorized the caller. */
export interface KubeletProxy {
  /** Answers `log`. */
  request(target: PodSubresource, response: ServerResponse): Promise<void>;
  /** Takes over a connection that asks for an upgrade, for `exec` and `attach`. */
  upgrade(
    target: PodSubresource,
    request: IncomingMessage,
    socket: Duplex,
    head: Buffer,
  ): Promise<void>;
}

class Refused extends Error {
  readonly code = 'kubelet/refused';
  readonly httpStatus: number;
  readonly reason: string;
  constructor(httpStatus: number, reason: string, message: string) {
    super(message);
    this.httpStatus = httpStatus;
    this.reason = reason;
  }
}

export function createKubeletProxy(
  kubelets: readonly Kubelet[],
  logger: ClusterLogger,
): KubeletProxy {
  function find(target: PodSubresource): { worker: PodWorker; container: Container } {
    const worker = kubelets
      .map((kubelet) => kubelet.worker(target.namespace, target.name))
      .find((w) => w !== undefined);
    if (worker === undefined) {
      throw new Refused(
        400,
        'BadRequest',
        `pod ${target.namespace}/${target.name} does not run on any node`,
      );
    }
    const { containers, initContainers = [] } = worker.pod.spec;
    const asked = target.query.get('container');
    const standard = worker.pod.metadata.annotations?.['kubectl.kubernetes.io/default-container'];
    const name = asked ?? standard ?? containers[0]?.name ?? '';
    const container = worker.container(name);
    if (container === undefined) {
      const names = [...containers, ...initContainers].map((c) => c.name).join(', ');
      throw new Refused(
        400,
        'BadRequest',
        `container ${name} is not valid for pod ${target.name}: choose one of: [${names}]`,
      );
    }
    return { worker, container };
  }

  return {
    async request(target, response) {
      try {
        const { container } = find(target);
        const options = parseLogOptions(target.query, Date.now());
        const { record } = container;
        const missing = options.previous ? container.logs.length < 2 : container.logs.length === 0;
        if (missing && options.previous) {
          throw new Refused(
            400,
            'BadRequest',
            `previous terminated container "${record.spec.name}" in pod "${target.name}" not found`,
          );
        }
        if (missing) {
          const why = record.state.waiting?.reason ?? 'it has not started';
          throw new Refused(
            400,
            'BadRequest',
            `container "${record.spec.name}" in pod "${target.name}" is waiting to start: ${why}`,
          );
        }
        await streamLog(container, options, response);
      } catch (error) {
        answerRefusal(error, response);
      }
    },
    async upgrade(target, request, socket, head) {
      socket.on('error', () => socket.destroy());
      try {
        const { container } = find(target);
        if (target.subresource !== 'exec' && target.subresource !== 'attach') {
          throw new Refused(
            501,
            'NotImplemented',
            'the sandbox has no port-forward: reach a Service by its address inside, or expose it when starting',
          );
        }
        const options = execOptions(target.query);
        if (target.subresource === 'exec' && options.command.length === 0) {
          throw new Refused(400, 'BadRequest', 'exec needs a command');
        }
        const protocol = (request.headers.upgrade ?? '').toLowerCase();
        if (protocol === 'websocket' && !offersChannels(request)) {
          throw new Refused(
            400,
            'BadRequest',
            'the WebSocket must offer v5.channel.k8s.io or v4.channel.k8s.io',
          );
        }
        if (protocol !== 'websocket' && protocol !== 'spdy/3.1') {
          throw new Refused(
            400,
            'BadRequest',
            `cannot upgrade to ${protocol || 'nothing'}: use websocket or SPDY/3.1`,
          );
        }
        const client =
          protocol === 'websocket'
            ? await acceptWebSocket(request, socket, head, options)
            : await acceptSpdy(request, socket, head, options);
        const run = target.subresource === 'exec' ? runExec : runAttach;
        await run(container, options, client).catch(async (error: unknown) => {
          logger.warn(
            { pod: `${target.namespace}/${target.name}`, error: describe(error) },
            'exec failed',
          );
          await client.finish(failure(describe(error)));
        });
      } catch (error) {
        refuseUpgrade(error, socket);
      }
    },
  };
}

function statusBody(error: unknown): { code: number; text: string } {
  const known = error instanceof Refused;
  const code = known ? error.httpStatus : 500;
  const status = {
    kind: 'Status',
    apiVersion: 'v1',
    metadata: {},
    status: 'Failure',
    message: describe(error),
    reason: known ? error.reason : 'InternalError',
    code,
  };
  return { code, text: JSON.stringify(status) };
}

function answerRefusal(error: unknown, response: ServerResponse): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  const { code, text } = statusBody(error);
  response.writeHead(code, { 'content-type': 'application/json' });
  response.end(text);
}

function refuseUpgrade(error: unknown, socket: Duplex): void {
  const { code, text } = statusBody(error);
  const head = [
    `HTTP/1.1 ${code} ${code === 400 ? 'Bad Request' : 'Error'}`,
    'content-type: application/json',
    `content-length: ${Buffer.byteLength(text)}`,
    'connection: close',
  ];
  socket.end(`${head.join('\r\n')}\r\n\r\n${text}`);
}
