import { redirectionAnnotation } from '@ambit/api';
import { messageOf } from '@ambit/core';

/**
 * Which writes on pods the API server refuses the agent. A pod without its mark is spoken to in plain text by the others, so
 * a node whose agent may not set it is not ready.
 */
export class WriteAccess {
  /** By what was to be written; value: what the API server says. */
  readonly #refused = new Map<string, string>();

  /** Carries a write out and remembers whether it is allowed. */
  async tried(key: string, write: () => Promise<void>): Promise<void> {
    try {
      await write();
      this.#refused.delete(key);
    } catch (error) {
      if (isForbidden(error)) this.#refused.set(key, saidBy(error));
      throw error;
    }
  }

  /** Nobody will try that one again. */
  forget(key: string): void {
    this.#refused.delete(key);
  }

  /** What is missing; undefined once nothing is. */
  missing(): string | undefined {
    const [refused] = this.#refused.values();
    if (refused === undefined) return undefined;
    return `the agent may not patch pods, and so cannot set their annotation ${redirectionAnnotation}: ${refused}; give its ServiceAccount the verb patch on pods (ClusterRole ambit-cni-redirect)`;
  }
}

export function isForbidden(error: unknown): boolean {
  return typeof error === 'object' && error !== null && 'code' in error && error.code === 403;
}

/** The sentence of the API server's answer, without everything that the client puts around it. */
function saidBy(error: unknown): string {
  const body: unknown =
    typeof error === 'object' && error !== null && 'body' in error ? error.body : undefined;
  const status = typeof body === 'string' ? parsed(body) : body;
  return typeof status === 'object' && status !== null && 'message' in status
    ? String(status.message)
    : (messageOf(error).split('\n')[0] ?? '');
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
