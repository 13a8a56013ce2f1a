/** Where a command writes: what was asked for, and what else is to be said. */
export interface CliOutput {
  out(text: string): void;
  err(text: string): void;
}
