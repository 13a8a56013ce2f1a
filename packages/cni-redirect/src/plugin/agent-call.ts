import { request } from 'node:http';
import { CniFailure, cniErrorCode } from './spec.ts';

const timeoutMs = 30_000;

/** Asks the node agent. Anything but its yes is a failure that says why and what to do. */
export function callAgent(socketPath: string, path: string, body: object): Promise<string> {
  return new Promise((resolve, reject) => {
    const unreachable = (why: string): void =>
      reject(
        new CniFailure(
          cniErrorCode.tryAgain,
          `the mesh's node agent cannot be reached: ${why}`,
          `the pod waits until the cni-redirect agent of this node answers on ${socketPath}; see its log. If the mesh was uninstalled while this node was away, take ambit-cni out of the node's CNI configuration`,
        ),
      );
    const call = request(
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
        response.on('error', (error) => unreachable(error.message));
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
    call.on('timeout', () => call.destroy(new Error(`no answer in ${timeoutMs} ms`)));
    call.on('error', (error: NodeJS.ErrnoException) => unreachable(error.code ?? error.message));
    call.end(JSON.stringify(body));
  });
}
