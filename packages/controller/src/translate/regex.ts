import { RE2JS } from 're2js';

const maxChars = 1024;

/** What is wrong with a regular expression of RE2, which is what proxies match with; undefined for a good one. */
export function regexProblem(pattern: string): string | undefined {
  if (pattern.length > maxChars) return `longer than ${maxChars} characters`;
  try {
    RE2JS.compile(pattern);
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}
