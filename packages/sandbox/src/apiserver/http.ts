import type { IncomingMessage, ServerResponse } from 'node:http';
import { parse } from 'yaml';
import { ApiError, badRequest } from './errors.ts';
import { decodeProtobuf, protobufType } from './protobuf/decode.ts';
import type { JsonObject } from './object.ts';
import { isObject } from './object.ts';

/** The largest body the API reads, as in the real one. */
const maxBodyBytes = 3 * 1024 * 1024;

/** @throws ApiError RequestEntityTooLarge */
export async function readBody(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > maxBodyBytes) {
      throw new ApiError(
        413,
        'RequestEntityTooLarge',
        `Request entity too large: limit is ${maxBodyBytes}`,
      );
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** A JSON or YAML text as a value; YAML is a superset, so its reader serves where JSON's refuses. */
export function decodeText(text: string, contentType: string): unknown {
  if (contentType.includes('protobuf') || contentType.includes('cbor')) {
    throw new ApiError(
      415,
      'UnsupportedMediaType',
      `the body of the request was in an unknown format - accepted media types include: application/json, application/yaml`,
    );
  }
  try {
    return contentType.includes('yaml')
      ? (parse(text, { maxAliasCount: 100 }) as unknown)
      : (JSON.parse(text) as unknown);
  } catch (error) {
    throw badRequest(
      `the object provided is unrecognized: ${(error as { message?: string }).message ?? 'not JSON'}`,
    );
  }
}

/** @throws ApiError BadRequest, UnsupportedMediaType */
export function decodeObject(body: Buffer, contentType: string): JsonObject {
  if (contentType.startsWith(protobufType)) return decodeProtobuf(body);
  const value = decodeText(body.toString('utf8'), contentType);
  if (!isObject(value)) throw badRequest('the body of the request must be an object');
  return value;
}

export function sendJson(
  response: ServerResponse,
  status: number,
  value: unknown,
  contentType = 'application/json',
): void {
  if (response.headersSent || response.destroyed) {
    response.destroy();
    return;
  }
  const body = Buffer.from(`${JSON.stringify(value)}\n`);
  response.writeHead(status, {
    'content-type': contentType,
    'content-length': body.length,
    'cache-control': 'no-cache, private',
  });
  response.end(body);
}

export function sendText(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, {
    'content-type': 'text/plain; charset=utf-8',
    'x-content-type-options': 'nosniff',
  });
  response.end(text);
}
