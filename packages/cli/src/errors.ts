/** A failure that its message explains in full. */
export class CliError extends Error {}
