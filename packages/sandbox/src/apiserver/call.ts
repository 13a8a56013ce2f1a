import type { ResourceCall } from './context.ts';
import type { Destination, FieldValidation } from './convert.ts';
import { badRequest } from './errors.ts';
import type { WriteOptions } from './resource-store.ts';

/** Where the object in a call's body goes. */
export function destination(call: ResourceCall, name: string | undefined): Destination {
  const { route, definition, query } = call;
  const validation = query.get('fieldValidation');
  return {
    definition,
    version: route.version,
    namespace: route.namespace,
    name,
    validation: fieldValidation(validation),
  };
}

function fieldValidation(given: string | null): FieldValidation {
  if (given === null || given === '') return 'Warn';
  if (given === 'Strict' || given === 'Warn' || given === 'Ignore') return given;
  throw badRequest(`fieldValidation must be Strict, Warn or Ignore, not ${given}`);
}

export function isDryRun({ query }: ResourceCall): boolean {
  const values = query.getAll('dryRun').filter((value) => value !== '');
  if (values.some((value) => value !== 'All'))
    throw badRequest(`dryRun must be All, not ${values.join(', ')}`);
  return values.length > 0;
}

export function writeOptions(call: ResourceCall): WriteOptions {
  return {
    dryRun: isDryRun(call),
    subresource: call.route.subresource === 'status' ? 'status' : undefined,
  };
}

/** The name a client's changes go under: what it says, or what it calls itself. */
export function managerOf({ query, request }: ResourceCall): string {
  const given = query.get('fieldManager') ?? '';
  const agent = (request.headers['user-agent'] ?? 'unknown').split('/')[0] ?? 'unknown';
  return (given === '' ? agent : given).slice(0, 128);
}
