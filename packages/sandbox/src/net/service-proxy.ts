import type { EndpointSlice, Service } from '../cluster/objects.ts';
import { resources, type ClusterStore } from '../cluster/store.ts';
import { describe, type ClusterLogger } from '../cluster/work-queue.ts';
import { run } from './command.ts';
import { renderServiceRules, type Backend, type VirtualAddress } from './service-rules.ts';

export interface ServiceProxyOptions {
  readonly store: ClusterStore;
  readonly logger: ClusterLogger;
  readonly ipv6: boolean;
  /** Namespaces to program: a node's with its name, the control plane's without a file. */
  readonly targets: readonly { readonly node?: string; readonly netns?: string }[];
}

export interface ServiceProxy {
  /** Resolves once what the API holds now is in the kernel. */
  sync(): Promise<void>;
  close(): Promise<void>;
}

const quietMs = 15;
const retryMs = 1_000;
const serviceNameLabel = 'kubernetes.io/service-name';

/** What kube-proxy does: service addresses lead to ready endpoints, in every node and in the control plane. */
export function startServiceProxy(options: ServiceProxyOptions): ServiceProxy {
  const applied = new Map<string, string>();
  let timer: NodeJS.Timeout | undefined;
  let closed = false;
  let work: Promise<void> = Promise.resolve();

  async function apply(): Promise<void> {
    const services = await options.store.list(resources.services);
    const slices = await options.store.list(resources.endpointSlices);
    await Promise.all(
      options.targets.map(async (target) => {
        const rules = renderServiceRules(
          virtualAddresses(services, slices, target.node),
          options.ipv6,
        );
        const key = target.netns ?? '';
        if (applied.get(key) === rules) return;
        await run('nft', ['-f', '-'], {
          input: rules,
          ...(target.netns === undefined ? {} : { netns: target.netns }),
        });
        applied.set(key, rules);
      }),
    );
  }

  function enqueue(): Promise<void> {
    const next = work.then(apply);
    work = next.catch((error: unknown) => {
      options.logger.warn(
        { error: describe(error) },
        'service rules were not applied; they will be tried again',
      );
      schedule(retryMs);
    });
    return next;
  }

  function schedule(delayMs: number): void {
    if (closed || timer !== undefined) return;
    timer = setTimeout(() => {
      timer = undefined;
      void enqueue().catch(() => undefined);
    }, delayMs);
  }

  const stops = [
    options.store.observe(resources.services, () => schedule(quietMs)),
    options.store.observe(resources.endpointSlices, () => schedule(quietMs)),
  ];
  schedule(0);
  return {
    sync: () => enqueue(),
    async close() {
      closed = true;
      for (const stop of stops) stop();
      clearTimeout(timer);
      await work;
    },
  };
}

/** Every served port of every service with the endpoints it may use from `node`. */
export function virtualAddresses(
  services: readonly Service[],
  slices: readonly EndpointSlice[],
  node: string | undefined,
): VirtualAddress[] {
  const byService = Map.groupBy(
    slices,
    (slice) =>
      `${slice.metadata.namespace ?? ''}/${slice.metadata.labels?.[serviceNameLabel] ?? ''}`,
  );
  return services.flatMap((service) => {
    const ips = (service.spec.clusterIPs ?? [service.spec.clusterIP ?? 'None']).filter(
      (ip) => ip !== 'None' && ip !== '',
    );
    if (service.spec.type === 'ExternalName') return [];
    const own = byService.get(`${service.metadata.namespace ?? ''}/${service.metadata.name}`) ?? [];
    const local = service.spec.internalTrafficPolicy === 'Local' ? node : undefined;
    return ips.flatMap((ip) => {
      const family = ip.includes(':') ? 'IPv6' : 'IPv4';
      const ofFamily = own.filter((slice) => slice.addressType === family);
      return (service.spec.ports ?? []).flatMap((port): VirtualAddress[] => {
        const protocol = (port.protocol ?? 'TCP').toLowerCase();
        if (protocol !== 'tcp' && protocol !== 'udp') return [];
        const backends = ofFamily.flatMap((slice) => backendsOf(slice, port.name ?? '', local));
        return [
          {
            ip,
            protocol,
            port: port.port,
            ...(port.nodePort === undefined ? {} : { nodePort: port.nodePort }),
            backends: backends.toSorted((a, b) => a.ip.localeCompare(b.ip) || a.port - b.port),
          },
        ];
      });
    });
  });
}

/** Ready endpoints; when none is ready, those that still serve while they end. */
function backendsOf(slice: EndpointSlice, portName: string, local: string | undefined): Backend[] {
  const port = (slice.ports ?? []).find((p) => (p.name ?? '') === portName)?.port;
  if (port === undefined) return [];
  const candidates = slice.endpoints.filter((e) => local === undefined || e.nodeName === local);
  const ready = candidates.filter((e) => e.conditions?.ready !== false);
  const chosen =
    ready.length > 0
      ? ready
      : candidates.filter(
          (e) => e.conditions?.serving === true && e.conditions.terminating === true,
        );
  return chosen.flatMap((e) => e.addresses.slice(0, 1).map((ip) => ({ ip, port })));
}
