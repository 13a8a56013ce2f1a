import { kubeStatus } from '../kube/error.ts';
import type { ReconcilerOptions } from '../kube/reconciler.ts';
import type { Log } from '../log.ts';

/** A write that fails so often in a row is told; a conflict before that is what the next event mends. */
export const persistentFailures = 3;

/** For a reconciler that writes a status: tells of one that could not be written. It is tried again. */
export function statusRefused(
  log: Log,
  nameOf: (key: string) => string,
): ReconcilerOptions['onError'] {
  return (key, error, failures) => {
    const fields = { err: error, object: nameOf(key), failures };
    const passing = kubeStatus(error) === 409 && failures < persistentFailures;
    if (passing) log.debug(fields, 'it was changed meanwhile; its status is written again');
    else log.warn(fields, 'status not written; it is tried again');
  };
}
