import type { ProxyFrame, Result, SpiffeId } from '@ambit/api';
import { err, maxCsrBytes, maxReportedProblems, ok, resourceTypes } from '@ambit/api';

import { field, list, text } from '../kube/decode/fields.ts';

const maxNameChars = 512;
const maxRejected = 1000;

/** Reads a frame of a proxy; the message names what is wrong with it. */
export function decodeProxyFrame(data: string): Result<ProxyFrame, string> {
  let value: unknown;
  try {
    value = JSON.parse(data);
  } catch {
    return err('the frame is no JSON');
  }
  switch (field(value, 'kind')) {
    case 'hello':
      return decodeHello(value);
    case 'ack': {
      const nonce = whole(field(value, 'nonce'));
      return nonce === undefined ? err('ack.nonce is no whole number') : ok({ kind: 'ack', nonce });
    }
    case 'nack':
      return decodeNack(value);
    case 'report':
      return decodeReport(value);
    case 'certificate-request':
      return decodeCertificateRequest(value);
    default:
      return err('the frame is of an unknown kind');
  }
}

function decodeHello(value: unknown): Result<ProxyFrame, string> {
  const schema = whole(field(value, 'schema'));
  const program = field(value, 'program');
  const node = text(field(value, 'node'));
  if (schema === undefined) return err('hello.schema is no whole number');
  if (program !== 'ztunnel' && program !== 'waypoint') return err('hello.program is unknown');
  if (node === '' || node.length > maxNameChars) return err('hello.node is no node name');
  const held: (typeof resourceTypes extends readonly (infer T)[]
    ? { type: T; versions: (readonly [string, string])[] }
    : never)[] = [];
  for (const entry of list(field(value, 'held'))) {
    const type = resourceTypes.find((one) => one === field(entry, 'type'));
    // A type of a newer proxy, of which we can know nothing.
    if (type === undefined) continue;
    const versions: (readonly [string, string])[] = [];
    for (const pair of list(field(entry, 'versions'))) {
      const [name, version] = list(pair);
      if (typeof name !== 'string' || typeof version !== 'string') {
        return err('hello.held[].versions holds something that is no pair of texts');
      }
      versions.push([name, version]);
    }
    held.push({ type, versions });
  }
  const instance = text(field(value, 'instance')).slice(0, maxNameChars);
  return ok({ kind: 'hello', schema, program, node, instance, held });
}

function decodeNack(value: unknown): Result<ProxyFrame, string> {
  const nonce = whole(field(value, 'nonce'));
  if (nonce === undefined) return err('nack.nonce is no whole number');
  const rejected = list(field(value, 'rejected'))
    .slice(0, maxRejected)
    .map((one) => ({
      type: text(field(one, 'type')).slice(0, maxNameChars),
      name: text(field(one, 'name')).slice(0, maxNameChars),
      reason: text(field(one, 'reason')).slice(0, 1000),
    }));
  return ok({ kind: 'nack', nonce, rejected });
}

/** Its texts end up on status, where people read them: they are short, and of one line. */
function decodeReport(value: unknown): Result<ProxyFrame, string> {
  const problems = list(field(value, 'problems'))
    .slice(0, maxReportedProblems)
    .flatMap((one) => {
      const type = resourceTypes.find((known) => known === field(one, 'type'));
      const name = text(field(one, 'name'));
      // A type of a newer proxy, of which we can know nothing.
      if (type === undefined || name === '' || name.length > maxNameChars) return [];
      const path = printable(text(field(one, 'field')), 200);
      return [{ type, name, field: path, message: printable(text(field(one, 'message')), 300) }];
    });
  return ok({ kind: 'report', problems });
}

function printable(written: string, maxChars: number): string {
  return written.slice(0, maxChars).replaceAll(/[\p{C}\p{Zl}\p{Zp}]/gu, ' ');
}

function decodeCertificateRequest(value: unknown): Result<ProxyFrame, string> {
  const id = whole(field(value, 'id'));
  const identity = text(field(value, 'identity'));
  const csr = text(field(value, 'csr'));
  if (id === undefined) return err('certificate-request.id is no whole number');
  if (identity.length > 2048) return err('certificate-request.identity is too long');
  // Refused by the authority with an answer of its own; here only kept from growing.
  const kept = csr.slice(0, maxCsrBytes + 1);
  return ok({ kind: 'certificate-request', id, identity: identity as SpiffeId, csr: kept });
}

function whole(value: unknown): number | undefined {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 ? value : undefined;
}
