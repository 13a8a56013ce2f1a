// Reads the words after a script's name. The comment at the head of the script is its help.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Unmet } from './ensure.mjs';

/**
 * @param script `import.meta.url` of the script
 * @param options.flags options without a value, as `--keep`
 * @param options.valued options with one, as `--tag`
 * @returns what was given: `flags`, `values` by option, the other `words`, and those after `--` as `passed`; undefined when
 *   help was asked for, which is printed
 */
export function readOptions(
  script,
  { flags = [], valued = [] } = {},
  args = process.argv.slice(2),
) {
  const at = args.indexOf('--');
  const own = at < 0 ? args : args.slice(0, at);
  const given = { flags: new Set(), values: new Map(), words: [], passed: [] };
  if (at >= 0) given.passed = args.slice(at + 1);
  if (own.some((word) => word === '--help' || word === '-h')) {
    console.log(helpOf(readFileSync(fileURLToPath(script), 'utf8')));
    return undefined;
  }
  for (let index = 0; index < own.length; index += 1) {
    const [word, value] = split(own[index]);
    if (flags.includes(word) && value === undefined) given.flags.add(word);
    else if (valued.includes(word)) given.values.set(word, value ?? valueAfter(own, (index += 1)));
    else if (word.startsWith('-')) throw new Unmet(unknown(own[index], [...flags, ...valued]));
    else given.words.push(own[index]);
  }
  return given;
}

/** Pure: the comment that a source begins with. */
export function helpOf(source) {
  const lines = source.split('\n');
  const end = lines.findIndex((line) => !line.startsWith('//'));
  return lines
    .slice(0, end)
    .map((line) => line.replace(/^\/\/ ?/, ''))
    .join('\n');
}

function split(word) {
  const at = word.startsWith('--') ? word.indexOf('=') : -1;
  return at < 0 ? [word, undefined] : [word.slice(0, at), word.slice(at + 1)];
}

function valueAfter(words, index) {
  const value = words[index];
  if (value === undefined || value.startsWith('-'))
    throw new Unmet(`${words[index - 1]} needs a value; --help says more.`);
  return value;
}

function unknown(word, known) {
  const there = [...known, '--help'].join(', ');
  return `${word} is not an option; there are ${there}.`;
}
