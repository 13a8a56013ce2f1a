import type { ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import type { KubeletProxy, PodStreamRequest } from '../../apiserver/index.ts';
import { describe, type ClusterLogger } from '../../cluster/work-queue.ts';
import type { Container } from '../container.ts';
import type { Kubelet } from '../kubelet.ts';
import {
  execOptions,
  failure,
  runAttach,
  runExec,
  type ExecOptions,
  type StreamClient,
} from './exec.ts';
import { parseLogOptions, streamLog } from './log.ts';
import { acceptSpdy } from './spdy-exec.ts';
import { acceptWebSocket, offersChannels } from './websocket.ts';

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

/** Answers the streams of pods, whose callers the API has authenticated and authorized, by the kubelets that run them. */
export function createKubeletProxy(
  kubelets: readonly Kubelet[],
  logger: ClusterLogger,
): KubeletProxy {
  return (asked) => {
    const name = `${asked.pod.metadata.namespace ?? ''}/${asked.pod.metadata.name}`;
    const { response, upgrade } = asked;
    if (upgrade !== undefined) {
      upgrade.socket.on('error', () => upgrade.socket.destroy());
      void stream(kubelets, asked, upgrade).catch((error: unknown) => {
        logger.debug({ pod: name, error: describe(error) }, 'stream refused');
        refuseUpgrade(error, upgrade.socket);
      });
    } else if (response !== undefined) {
      void answer(kubelets, asked, response).catch((error: unknown) =>
        answerRefusal(error, response),
      );
    }
  };
}

function findContainer(kubelets: readonly Kubelet[], { pod, query }: PodStreamRequest): Container {
  const { namespace = '', name } = pod.metadata;
  const worker = kubelets
    .map((kubelet) => kubelet.worker(namespace, name))
    .find((w) => w !== undefined);
  if (worker === undefined) {
    throw new Refused(400, 'BadRequest', `pod ${namespace}/${name} does not run on any node`);
  }
  const { containers, initContainers = [] } = worker.pod.spec;
  const standard = worker.pod.metadata.annotations?.['kubectl.kubernetes.io/default-container'];
  const wanted = query.get('container') ?? standard ?? containers[0]?.name ?? '';
  const container = worker.container(wanted);
  if (container !== undefined) return container;
  const names = [...containers, ...initContainers].map((c) => c.name).join(', ');
  throw new Refused(
    400,
    'BadRequest',
    `container ${wanted} is not valid for pod ${name}: choose one of: [${names}]`,
  );
}

async function answer(
  kubelets: readonly Kubelet[],
  asked: PodStreamRequest,
  response: ServerResponse,
): Promise<void> {
  if (asked.subresource !== 'log') {
    throw new Refused(
      400,
      'BadRequest',
      `pods/${asked.subresource} needs a connection upgrade: WebSocket or SPDY/3.1`,
    );
  }
  const container = findContainer(kubelets, asked);
  const options = parseLogOptions(asked.query, Date.now());
  const { record } = container;
  const which = `container "${record.spec.name}" in pod "${asked.pod.metadata.name}"`;
  if (options.previous && container.logs.length < 2) {
    throw new Refused(400, 'BadRequest', `previous terminated ${which} not found`);
  }
  if (container.logs.length === 0) {
    const why = record.state.waiting?.reason ?? 'it has not started';
    throw new Refused(400, 'BadRequest', `${which} is waiting to start: ${why}`);
  }
  await streamLog(container, options, response);
}

type Upgrade = NonNullable<PodStreamRequest['upgrade']>;

async function stream(
  kubelets: readonly Kubelet[],
  asked: PodStreamRequest,
  upgrade: Upgrade,
): Promise<void> {
  const container = findContainer(kubelets, asked);
  if (asked.subresource !== 'exec' && asked.subresource !== 'attach') {
    throw new Refused(
      501,
      'NotImplemented',
      'the sandbox has no port-forward: reach a Service by its address inside, or expose it when starting',
    );
  }
  const options = execOptions(asked.query);
  if (asked.subresource === 'exec' && options.command.length === 0) {
    throw new Refused(400, 'BadRequest', 'exec needs a command');
  }
  const client = await acceptClient(asked, upgrade, options);
  const run = asked.subresource === 'exec' ? runExec : runAttach;
  try {
    await run(container, options, client);
  } catch (error) {
    await client.finish(failure(describe(error)));
  }
}

async function acceptClient(
  { request }: PodStreamRequest,
  { socket, head }: Upgrade,
  options: ExecOptions,
): Promise<StreamClient> {
  const protocol = (request.headers.upgrade ?? '').toLowerCase();
  if (protocol === 'spdy/3.1') return acceptSpdy(request, socket, head, options);
  if (protocol !== 'websocket') {
    throw new Refused(
      400,
      'BadRequest',
      `cannot upgrade to ${protocol || 'nothing'}: use websocket or SPDY/3.1`,
    );
  }
  if (!offersChannels(request)) {
    throw new Refused(
      400,
      'BadRequest',
      'the WebSocket must offer v5.channel.k8s.io or v4.channel.k8s.io',
    );
  }
  return acceptWebSocket(request, socket, head, options);
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
