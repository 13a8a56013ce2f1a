import type { Result } from '@ambit/api';
import { err, ok } from '@ambit/api';
import type { ASTNode } from '@marcbachmann/cel-js';
import { Environment } from '@marcbachmann/cel-js';
import { RE2JS } from 're2js';
import { PeerAttributes, attributeTypes, attributesOf, peerFields } from './attributes.ts';
import type { TelemetryFacts } from './facts.ts';

const maxChars = 1024;

/** Patterns of `matches`, by what the source was given in their place. */
type Patterns = Map<string, RE2JS>;

/** Whether a filter lets an event through. */
export function compileFilter(text: string): Result<(facts: TelemetryFacts) => boolean, string> {
  const compiled = compile(text, 'bool');
  if (!compiled.ok) return compiled;
  const evaluate = compiled.value;
  // What cannot be told, such as the code of a request that was never answered, is no match, as with Envoy.
  return ok((facts) => evaluate(facts) === true);
}

/** The value of a tag; `unknown` where the attributes that it asks for are absent. */
export function compileTag(text: string): Result<(facts: TelemetryFacts) => string, string> {
  const compiled = compile(text, 'string');
  if (!compiled.ok) return compiled;
  const evaluate = compiled.value;
  return ok((facts) => {
    const value = evaluate(facts);
    return typeof value === 'string' ? value.slice(0, maxTagChars) : 'unknown';
  });
}

const maxTagChars = 256;

/**
 * Compiles an expression of CEL, once. Its cost is bounded: no loops, and regular expressions are literals that run
 * by RE2.
 */
function compile(
  text: string,
  wanted: 'bool' | 'string',
): Result<(facts: TelemetryFacts) => unknown, string> {
  if (text.length > maxChars) return err(`is longer than ${maxChars} characters`);
  const patterns: Patterns = new Map();
  const environment = environmentOf(patterns);
  try {
    const source = withOwnMatches(environment.parse(text).ast, text, patterns);
    if (!source.ok) return source;
    const checked = environment.check(source.value);
    if (!checked.valid) return err(firstLine(checked.error));
    if (checked.type !== wanted)
      return err(`is of type ${String(checked.type)} and must be ${wanted}`);
    const evaluate = environment.parse(source.value);
    // A comment between a dot and its name could hide the one from the other.
    if (usesMatches(evaluate.ast)) return err('must write .matches( without anything in between');
    return ok((facts) => {
      try {
        return evaluate(attributesOf(facts)) as unknown;
      } catch {
        return undefined;
      }
    });
  } catch (error) {
    return err(firstLine(error));
  }
}

function environmentOf(patterns: Patterns): Environment {
  const environment = new Environment({
    unlistedVariablesAreDyn: false,
    limits: { maxAstNodes: 300, maxDepth: 40, maxListElements: 100, maxMapEntries: 100 },
  });
  for (const [name, { ctor, fields }] of Object.entries(attributeTypes)) {
    environment.registerType(`ambit.${name}`, { ctor, fields });
    environment.registerVariable(name, `ambit.${name}`);
  }
  environment.registerType('ambit.peer', { ctor: PeerAttributes, fields: peerFields });
  environment.registerVariable('source', 'ambit.peer');
  environment.registerVariable('destination', 'ambit.peer');
  environment.registerFunction(
    `string.${ownMatches}(string): bool`,
    (value: string, pattern: string) => patterns.get(pattern)?.matcher(value).find() ?? false,
  );
  return environment;
}

// The library's own would run a stranger's text through a backtracking engine.
const ownMatches = 're2Matches';
const loops: ReadonlySet<string> = new Set([
  'all',
  'exists',
  'exists_one',
  'map',
  'filter',
  'transformList',
  'transformMap',
  'bind',
]);

/** The source with `matches` by RE2; refused where a pattern is no literal, or where there are loops. */
function withOwnMatches(ast: ASTNode, text: string, patterns: Patterns): Result<string, string> {
  const places: number[] = [];
  for (const node of nodesOf(ast)) {
    if (node.op !== 'call' && node.op !== 'rcall') continue;
    const [name] = node.args;
    if (loops.has(name)) return err(`must not use ${name}: loops are not there`);
    if (name !== 'matches') continue;
    if (node.op === 'call') return err('must say VALUE.matches(PATTERN)');
    const [pattern] = node.args[2];
    if (pattern?.op !== 'value' || typeof pattern.args !== 'string') {
      return err('the pattern of matches must be written out');
    }
    patterns.set(pattern.args, RE2JS.compile(pattern.args));
    places.push(text.indexOf('matches', node.pos));
  }
  places.sort((left, right) => right - left);
  return ok(
    places.reduce(
      (source, at) => `${source.slice(0, at)}${ownMatches}${source.slice(at + 'matches'.length)}`,
      text,
    ),
  );
}

function usesMatches(ast: ASTNode): boolean {
  return [...nodesOf(ast)].some(
    ({ op, args }) => (op === 'call' || op === 'rcall') && args[0] === 'matches',
  );
}

function* nodesOf(value: unknown): Generator<ASTNode> {
  if (Array.isArray(value)) {
    for (const one of value as unknown[]) yield* nodesOf(one);
    return;
  }
  if (typeof value !== 'object' || value === null || !('op' in value)) return;
  const node = value as ASTNode;
  yield node;
  yield* nodesOf(node.args);
}

function firstLine(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return message.split('\n', 1)[0] ?? '';
}
