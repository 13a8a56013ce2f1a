/** Where the sandbox tells the person at the terminal what it does. */
export interface Output {
  line(text?: string): void;
  /** A step that takes a while: its end is told with the seconds it took. */
  step<T>(text: string, work: () => Promise<T>): Promise<T>;
  proof(text: string, ok: boolean | undefined): void;
}

export interface OutputStream {
  write(text: string): unknown;
  readonly isTTY?: boolean;
}

export function createOutput(stream: OutputStream): Output {
  const colour = (code: number, text: string): string =>
    stream.isTTY === true ? `\u001b[${code}m${text}\u001b[0m` : text;
  const line = (text = ''): void => void stream.write(`${text}\n`);
  return {
    line,
    async step(text, work) {
      const started = performance.now();
      const seconds = (): string => `${((performance.now() - started) / 1000).toFixed(1)} s`;
      try {
        const value = await work();
        line(`${colour(32, '✓')} ${text} ${colour(90, `(${seconds()})`)}`);
        return value;
      } catch (error) {
        line(`${colour(31, '✗')} ${text} (${seconds()})`);
        throw error;
      }
    },
    proof(text, ok) {
      if (ok === undefined)
        line(text === '' ? '' : /^\d/.test(text) ? colour(1, text) : `  $ ${text}`);
      else line(`  ${ok ? colour(32, '✓') : colour(31, '✗')} ${text}`);
    },
  };
}
