import type { Socket } from 'node:net';
import type { ClusterStore } from '../cluster/store.ts';
import type { ClusterLogger } from '../cluster/work-queue.ts';
import type { CniPaths } from './cni.ts';
import type { EventRecorder } from './events.ts';
import type { ImageCatalogue } from './images.ts';
import type { TokenIssuer } from './volumes.ts';

/** What everything on one node shares. */
export interface NodeContext {
  readonly name: string;
  /** Directory of the machine that is the node's `/`. */
  readonly root: string;
  /** File of the node's network namespace. */
  readonly netns: string;
  readonly ips: readonly string[];
  readonly cni: CniPaths;
  readonly store: ClusterStore;
  readonly tokens: TokenIssuer;
  readonly images: ImageCatalogue;
  readonly logger: ClusterLogger;
  readonly events: EventRecorder;
  readonly dns: { readonly servers: readonly string[]; readonly domain: string };
  readonly api: { readonly host: string; readonly port: number };
  /** Directories of the machine that every container sees where they are, such as the clone with the programs. */
  readonly shared: readonly string[];
  /** Directories that containers do not see. */
  readonly hidden: readonly string[];
  /** Connects from the node's own network. */
  connect(host: string, port: number, signal: AbortSignal): Promise<Socket>;
}
