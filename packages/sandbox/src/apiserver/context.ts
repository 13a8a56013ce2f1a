import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import type { KubeObject } from './object.ts';
import type { ResourceDefinition } from './registry.ts';
import type { ApiRoute } from './route.ts';
import type { ObjectStore } from './store.ts';
import type { Tokens, User } from './tokens.ts';

/** What every handler works with. */
export interface ApiContext {
  readonly store: ObjectStore;
  readonly tokens: Tokens;
  readonly now: () => number;
  readonly serverAddress: () => string;
  readonly kubeletProxy: KubeletProxy | undefined;
  readonly minimumWatchSeconds: number;
  /** How webhooks are reached that are named by a Service. */
  readonly dialService: DialService | undefined;
}

/** A request for one of a pod's streams; the kubelet's side answers it whole. */
export interface PodStreamRequest {
  readonly pod: KubeObject;
  readonly subresource: 'log' | 'exec' | 'attach' | 'portforward';
  readonly query: URLSearchParams;
  readonly request: IncomingMessage;
  /** Where a plain answer goes; absent for an upgrade. */
  readonly response?: ServerResponse;
  /** The raw socket of an upgrade, with what was read of it already. */
  readonly upgrade?: { readonly socket: Duplex; readonly head: Buffer };
}

export type KubeletProxy = (request: PodStreamRequest) => void;

/** Connects to a port of a Service. */
export type DialService = (namespace: string, name: string, port: number) => Promise<Duplex>;

/** One request for a resource, after authentication and authorization. */
export interface ResourceCall {
  readonly method: string;
  readonly route: ApiRoute;
  readonly definition: ResourceDefinition;
  readonly query: URLSearchParams;
  readonly user: User;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly body: Buffer;
  readonly contentType: string;
}
