import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export const bootMarkFile = (stateDir: string): string => join(stateDir, 'ready-since-boot');

/**
 * Remembers across agents that something was so since the node was booted: in a file of a directory that a boot clears on
 * most systems, with the name that the kernel gives to each boot.
 */
export class BootMark {
  readonly #file: string;
  readonly #boot: string;
  #set: boolean;

  constructor(stateDir: string, boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8')) {
    this.#file = bootMarkFile(stateDir);
    this.#boot = boot;
    this.#set = textOf(this.#file) === boot;
  }

  get isSet(): boolean {
    return this.#set;
  }

  set(): void {
    if (this.#set) return;
    writeFileSync(this.#file, this.#boot, { mode: 0o600 });
    this.#set = true;
  }
}

function textOf(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
}
