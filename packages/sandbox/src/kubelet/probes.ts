import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { Socket } from 'node:net';
import { connect as tlsConnect } from 'node:tls';
import type { ContainerSpec, HttpGetAction, ProbeSpec } from '../cluster/objects.ts';

export interface ProbeTarget {
  readonly container: ContainerSpec;
  readonly address: string;
  /** Connects from the node's network. */
  connect(host: string, port: number, signal: AbortSignal): Promise<Socket>;
  /** Runs a command in the container. */
  exec(
    argv: readonly string[],
    timeoutMs: number,
  ): Promise<{ status: number | undefined; output: string }>;
}

export interface ProbeResult {
  readonly success: boolean;
  readonly output: string;
}

const maxBodyBytes = 10 * 1024;

/** Makes one attempt. Never throws: what goes wrong is the result. */
export async function attemptProbe(probe: ProbeSpec, target: ProbeTarget): Promise<ProbeResult> {
  const timeoutMs = (probe.timeoutSeconds ?? 1) * 1000;
  try {
    if (probe.exec !== undefined) {
      const { status, output } = await target.exec(probe.exec.command, timeoutMs);
      return { success: status === 0, output: output.slice(0, maxBodyBytes) };
    }
    const signal = AbortSignal.timeout(timeoutMs);
    if (probe.httpGet !== undefined) return await httpGet(probe.httpGet, target, signal);
    const port = portOf(probe.tcpSocket?.port ?? probe.grpc?.port ?? 0, target.container);
    const socket = await target.connect(probe.tcpSocket?.host ?? target.address, port, signal);
    socket.destroy();
    return { success: true, output: '' };
  } catch (error) {
    return { success: false, output: String(error) };
  }
}

/** Sends an HTTP GET as probes and lifecycle hooks do: any status from 200 to 399 succeeds. */
export async function httpGet(
  action: HttpGetAction,
  target: ProbeTarget,
  signal: AbortSignal,
): Promise<ProbeResult> {
  const port = portOf(action.port, target.container);
  const host = action.host ?? target.address;
  const socket = await target.connect(host, port, signal);
  const secure = action.scheme === 'HTTPS';
  const headers = Object.fromEntries((action.httpHeaders ?? []).map((h) => [h.name, h.value]));
  return new Promise((resolve, reject) => {
    const send = secure ? httpsRequest : httpRequest;
    const request = send({
      host,
      port,
      path: action.path ?? '/',
      headers: { 'user-agent': 'kube-probe/1.34', accept: '*/*', connection: 'close', ...headers },
      // Kubernetes does not verify the certificate of what it probes.
      createConnection: () => (secure ? tlsConnect({ socket, rejectUnauthorized: false }) : socket),
      signal,
    });
    request.on('error', (error) => {
      socket.destroy();
      reject(error);
    });
    request.on('response', (response) => {
      const status = response.statusCode ?? 0;
      response.resume();
      response.on('error', () => undefined);
      socket.destroySoon();
      resolve({
        success: status >= 200 && status < 400,
        output: `HTTP probe failed with statuscode: ${status}`,
      });
    });
    request.end();
  });
}

export function portOf(port: number | string, container: ContainerSpec): number {
  if (typeof port === 'number') return port;
  const named = container.ports?.find((p) => p.name === port)?.containerPort;
  const number = named ?? Number(port);
  if (!Number.isInteger(number) || number < 1 || number > 65_535) {
    throw new RangeError(
      `probe names port "${port}", which container "${container.name}" does not have`,
    );
  }
  return number;
}

export interface ProbeLoop {
  stop(): void;
}

export interface ProbeLoopOptions {
  readonly probe: ProbeSpec;
  readonly target: ProbeTarget;
  /** What holds before the first verdict. */
  readonly initial: boolean;
  onVerdict(healthy: boolean, output: string): void;
  onFailure(output: string): void;
}

/** Probes by the declared periods and thresholds until stopped; tells a verdict when a threshold is reached. */
export function startProbeLoop(options: ProbeLoopOptions): ProbeLoop {
  const { probe, target } = options;
  const periodMs = (probe.periodSeconds ?? 10) * 1000;
  let timer: NodeJS.Timeout | undefined;
  let stopped = false;
  let streak = 0;
  let lastSuccess: boolean | undefined;
  let verdict = options.initial;
  let told = false;

  const isStopped = (): boolean => stopped;

  async function once(): Promise<void> {
    const { success, output } = await attemptProbe(probe, target);
    if (isStopped()) return;
    streak = success === lastSuccess ? streak + 1 : 1;
    lastSuccess = success;
    if (!success) options.onFailure(output);
    const threshold = success ? (probe.successThreshold ?? 1) : (probe.failureThreshold ?? 3);
    if (streak >= threshold && (verdict !== success || !told || !success)) {
      verdict = success;
      told = true;
      options.onVerdict(success, output);
    }
  }

  function schedule(delayMs: number): void {
    if (stopped) return;
    timer = setTimeout(() => {
      const startedAt = Date.now();
      void once().finally(() => schedule(Math.max(0, periodMs - (Date.now() - startedAt))));
    }, delayMs);
  }

  schedule((probe.initialDelaySeconds ?? 0) * 1000);
  return {
    stop() {
      stopped = true;
      clearTimeout(timer);
    },
  };
}
