import { request } from 'node:http';
import { CniFailure, cniErrorCode } from './spec.ts';

const timeoutMs = 30_000;
/** As long as one agent takes to have the node from another, and a little more. */
const reachMs = 10_000;
const pauseMs = 100;
/** Nobody is there, or ended before it had answered. */
const goneCodes: readonly (string | undefined)[] = [
  'ENOENT',
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
];

/**
 * Asks the node agent. Anything but its yes is a failure that says why and what to do. Where none is there, the next one may
 * be about to come: it is asked again for a while.
 */
export async function callAgent(
  socketPath: string,
  path: string,
  body: object,
  withinMs = reachMs,
): Promise<string> {
  const deadlineMs = performance.now() + withinMs;
  for (;;) {
    try {
      return await call(socketPath, path, body);
    } catch (error) {
      if (error instanceof CniFailure) throw error;
      const { code, message } = error as NodeJS.ErrnoException;
      if (!goneCodes.includes(code) || performance.now() + pauseMs > deadlineMs)
        throw unreachable(socketPath, code ?? message);
    }
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
}

function unreachable(socketPath: string, why: string): CniFailure {
  return new CniFailure(
    cniErrorCode.tryAgain,
    `the mesh's node agent cannot be reached: ${why}`,
    `the pod waits until the cni-redirect agent of this node answers on ${socketPath}; see its log. If the mesh was uninstalled while this node was away, take ambit-cni out of the node's CNI configuration`,
  );
}

function call(socketPath: string, path: string, body: object): Promise<string> {
  return new Promise((resolve, reject) => {
    const asked = request(
      {
        socketPath,
        method: 'POST',
        path,
        timeout: timeoutMs,
        headers: { 'content-type': 'application/json' },
      },
      (response) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => (text += chunk));
        response.on('error', reject);
        response.on('end', () => {
          if (response.statusCode === 200) resolve(text);
          else
            reject(
              new CniFailure(
                cniErrorCode.refused,
                text || `the agent answered ${response.statusCode ?? 0}`,
                'the runtime will try again',
              ),
            );
        });
      },
    );
    asked.on('timeout', () => asked.destroy(new Error(`no answer in ${timeoutMs} ms`)));
    asked.on('error', reject);
    asked.end(JSON.stringify(body));
  });
}
