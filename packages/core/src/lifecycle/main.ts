import type { Logger } from '../observe/logger.ts';
import { causeChain } from '../errors.ts';

export interface Running {
  /** Stops in order: drain, then close. Called once. */
  stop(): Promise<void>;
  /** Where settings decide it: instead of that of the options. */
  readonly stopDeadlineMs?: number;
}

export interface MainOptions {
  readonly logger: Logger;
  /** How long an orderly stop may take before the process ends all the same. */
  readonly stopDeadlineMs: number;
  readonly exit: (code: number) => void;
}

/** Runs a program from start to SIGTERM: a failed start or an unexpected error ends it with status 1 and says why. */
export async function runMain(
  start: () => Promise<Running>,
  { logger, stopDeadlineMs, exit }: MainOptions,
): Promise<void> {
  const failed = (what: string) => (error: unknown) => {
    logger.fatal({ err: error }, `${what}: ${causeChain(error)}`);
    exit(1);
  };
  process.on('uncaughtException', failed('unexpected error'));
  process.on('unhandledRejection', failed('unexpected rejection'));
  // With SIGUSR1 anybody of the same user could open the inspector.
  process.on('SIGUSR1', () => undefined);
  let running: Running | undefined;
  let stopping = false;
  const stop = (signal: string): void => {
    if (stopping) return;
    stopping = true;
    logger.info({ signal }, 'stopping');
    if (running === undefined) {
      // Of what has not begun there is nothing to end in order; as a container's first process it would not be ended at all.
      exit(0);
      return;
    }
    const deadlineMs = running.stopDeadlineMs ?? stopDeadlineMs;
    const deadline = setTimeout(() => {
      logger.warn({ deadlineMs }, 'the deadline for stopping has passed');
      exit(1);
    }, deadlineMs);
    running.stop().then(() => {
      clearTimeout(deadline);
      exit(0);
    }, failed('cannot stop in order'));
  };
  process.on('SIGTERM', () => stop('SIGTERM'));
  process.on('SIGINT', () => stop('SIGINT'));
  try {
    running = await start();
  } catch (error) {
    failed('cannot start')(error);
  }
}
