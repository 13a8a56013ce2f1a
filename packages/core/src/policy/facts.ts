import type { IpAddress, Port, SpiffeIdentity } from '@ambit/api';

/** What is known of a connection when it is judged. */
export interface ConnectionFacts {
  /** The peer's verified identity; absent for plain text. */
  readonly sourceIdentity?: SpiffeIdentity;
  /** For whom a trusted waypoint speaks; policies may name either of the two, and exceptions do not pass from one on. */
  readonly originIdentity?: SpiffeIdentity;
  readonly sourceIp: IpAddress;
  readonly destinationIp: IpAddress;
  readonly destinationPort: Port;
  readonly sni?: string;
  /** Only where HTTP is understood; without it a rule that asks for it cannot be judged. */
  readonly request?: RequestFacts;
  /** The original client as a trusted hop tells it; `sourceIp` where none does. */
  readonly remoteIp?: IpAddress;
}

/** What is known of an HTTP request when it is judged. */
export interface RequestFacts {
  readonly method: string;
  /** As it came, perhaps with a port. */
  readonly authority: string;
  /** Normalised, without the query: the very bytes that are forwarded. */
  readonly path: string;
  /** Every value of a header, one by one, by its lower-case name. */
  readonly header: (name: string) => readonly string[];
  /** Of a token that was found good. */
  readonly token?: VerifiedToken;
}

export interface VerifiedToken {
  /** `<issuer>/<subject>`. */
  readonly principal: string;
  readonly audiences: readonly string[];
  /** `azp`. */
  readonly presenter: string | undefined;
  readonly claims: Readonly<Record<string, unknown>>;
}
