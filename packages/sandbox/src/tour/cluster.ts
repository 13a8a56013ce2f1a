/** A pod as the tour looks at it. */
export interface TourPod {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly node: string;
  readonly ip: string;
  /** All of its addresses. */
  readonly ips: readonly string[];
  readonly restarts: number;
  readonly labels: ReadonlyMap<string, string>;
  readonly redirected: boolean;
  readonly ready: boolean;
}

export interface ExecResult {
  readonly code: number;
  readonly output: string;
}

export interface LinkCapture {
  readonly frames: readonly Buffer[];
  stop(): void;
}

/** What the tour does to the cluster and reads from it; everything goes through what a user has, too. */
export interface TourCluster {
  label(namespace: string, key: string, value: string | null): Promise<void>;
  apply(object: object): Promise<void>;
  exists(object: object): Promise<boolean>;
  /** An object as it stands, by its apiVersion, kind, namespace and name. */
  get(object: object): Promise<unknown>;
  remove(object: object): Promise<void>;
  /** Runs `ambitctl` with these arguments, as a user would. */
  ambitctl(...args: readonly string[]): Promise<{ readonly ok: boolean; readonly text: string }>;
  pods(namespace: string): Promise<TourPod[]>;
  exec(namespace: string, pod: string, command: readonly string[]): Promise<ExecResult>;
  /** Of the running container, or of the one before it. */
  logs(namespace: string, pod: string, previous?: boolean): Promise<string>;
  /** Captures the link between a node and the network that joins the nodes. */
  captureNodeLink(node: string): LinkCapture;
  /** Reads `http://IP:PORT/PATH` from the control plane's network. */
  read(ip: string, port: number, path: string): Promise<string>;
}
