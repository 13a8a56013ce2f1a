import { RE2JS } from 're2js';
import { uriProblem } from './target-text.ts';

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

/** What is wrong with a replacement of what an expression matches in a path, by RE2's rules; undefined for a good one. */
export function replacementProblem(pattern: string, replacement: string): string | undefined {
  const problem = uriProblem(replacement);
  // Of a bad expression its owner is told.
  if (problem !== undefined || regexProblem(pattern) !== undefined) return problem;
  const groups = RE2JS.compile(pattern).groupCount();
  for (const [whole, escaped = ''] of replacement.matchAll(/\\([\s\S]?)/g)) {
    if (escaped === '\\') continue;
    if (!/^\d$/.test(escaped)) {
      return 'has a backslash that is neither before a digit nor before a backslash; write \\\\ for a backslash';
    }
    if (Number(escaped) > groups) {
      const has = groups === 0 ? 'no group' : groups === 1 ? 'one group' : `${groups} groups`;
      return `names ${whole}, and the expression of match has ${has}; name another or add parentheses to match`;
    }
  }
  return undefined;
}
