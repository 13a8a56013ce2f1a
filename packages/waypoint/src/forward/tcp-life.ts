import type { PoolLimits } from '@ambit/api';
import type { Copy, CopyOptions } from '@ambit/core';

/** Ends a connection that has been silent, or there, for too long. */
export interface LimitedLife {
  readonly options: CopyOptions;
  begin(copy: Copy): void;
  end(): void;
}

const defaultIdleMs = 3_600_000;

export function limitedLife({
  tcpIdleTimeoutMs = defaultIdleMs,
  maxConnectionDurationMs,
}: PoolLimits): LimitedLife {
  let idle: NodeJS.Timeout | undefined;
  let whole: NodeJS.Timeout | undefined;
  return {
    options: { onBytes: () => void idle?.refresh() },
    begin: (copy) => {
      idle = setTimeout(() => copy.abort(new Error('silent for too long')), tcpIdleTimeoutMs);
      idle.unref();
      if (maxConnectionDurationMs === undefined) return;
      whole = setTimeout(
        () => copy.abort(new Error('the connection may last no longer')),
        maxConnectionDurationMs,
      );
      whole.unref();
    },
    end: () => {
      clearTimeout(idle);
      clearTimeout(whole);
    },
  };
}
