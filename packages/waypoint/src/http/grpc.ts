import type { HeaderList } from './headers.ts';

const grpcType = /^application\/grpc(?:$|[+;])/;

/** gRPC itself, not its dialect for browsers. */
export function isGrpc(headers: HeaderList): boolean {
  const type = headers.get('content-type');
  return type !== undefined && grpcType.test(type);
}

/** What a status of HTTP is to a client of gRPC, as the gRPC protocol maps them. */
export function grpcOfHttp(status: number): number {
  switch (status) {
    case 400:
      return 13;
    case 401:
      return 16;
    case 403:
      return 7;
    case 404:
      return 12;
    case 429:
    case 502:
    case 503:
    case 504:
      return 14;
    default:
      return 2;
  }
}

/** UTF-8 with everything but printable ASCII escaped, and the percent sign with it. */
export function grpcMessage(text: string): string {
  let out = '';
  for (const byte of Buffer.from(text)) {
    const plain = byte >= 0x20 && byte <= 0x7e && byte !== 0x25;
    out += plain
      ? String.fromCharCode(byte)
      : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  }
  return out;
}
