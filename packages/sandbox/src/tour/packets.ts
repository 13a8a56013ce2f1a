/** One TCP segment as it was seen on a link. */
export interface Segment {
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly payload: Buffer;
}

/** What a capture shows of one secret that was sent while it ran. */
export interface LinkEvidence {
  readonly segments: number;
  /** Segments whose payload holds the secret in clear. */
  readonly inClear: number;
  /** Segments to or from the HBONE port, and those of them that start with a TLS record. */
  readonly onHbonePort: number;
  readonly tlsRecords: number;
}

const etherTypes = { ipv4: 0x0800, ipv6: 0x86dd } as const;
const tcp = 6;

/** Parses an Ethernet frame; undefined for what is no TCP segment. */
export function parseSegment(frame: Buffer): Segment | undefined {
  if (frame.length < 14) return undefined;
  const etherType = frame.readUInt16BE(12);
  const packet = frame.subarray(14);
  if (etherType === etherTypes.ipv4) return parseIpv4(packet);
  if (etherType === etherTypes.ipv6) return parseIpv6(packet);
  return undefined;
}

export function examine(
  frames: readonly Buffer[],
  secret: string,
  hbonePort: number,
): LinkEvidence {
  const needle = Buffer.from(secret);
  const segments = frames.map(parseSegment).filter((segment) => segment !== undefined);
  const hbone = segments.filter(
    ({ sourcePort, destinationPort, payload }) =>
      payload.length > 0 && (sourcePort === hbonePort || destinationPort === hbonePort),
  );
  return {
    segments: segments.length,
    inClear: segments.filter(({ payload }) => payload.includes(needle)).length,
    onHbonePort: hbone.length,
    tlsRecords: hbone.filter(({ payload }) => startsTlsRecord(payload)).length,
  };
}

/** Content type handshake, alert, change-cipher-spec or application data, and record version 3.x. */
export function startsTlsRecord(payload: Buffer): boolean {
  const type = payload[0] ?? 0;
  return type >= 20 && type <= 23 && payload[1] === 3;
}

function parseIpv4(packet: Buffer): Segment | undefined {
  if (packet.length < 20 || packet[9] !== tcp) return undefined;
  const headerBytes = ((packet[0] ?? 0) & 0x0f) * 4;
  return parseTcp(packet.subarray(headerBytes, packet.readUInt16BE(2)));
}

function parseIpv6(packet: Buffer): Segment | undefined {
  if (packet.length < 40 || packet[6] !== tcp) return undefined;
  return parseTcp(packet.subarray(40, 40 + packet.readUInt16BE(4)));
}

function parseTcp(segment: Buffer): Segment | undefined {
  if (segment.length < 20) return undefined;
  const headerBytes = ((segment[12] ?? 0) >> 4) * 4;
  return {
    sourcePort: segment.readUInt16BE(0),
    destinationPort: segment.readUInt16BE(2),
    payload: segment.subarray(headerBytes),
  };
}
