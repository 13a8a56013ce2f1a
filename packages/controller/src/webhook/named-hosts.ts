import type { Sources } from '../collections/sources.ts';

type Routes = Pick<
  Sources,
  'virtualServices' | 'httpRoutes' | 'grpcRoutes' | 'tcpRoutes' | 'tlsRoutes'
>;

/** Whether a VirtualService or a route names one of the hosts; which may be sooner than somebody has them. */
export function isNamedByRoutes(hosts: readonly string[], sources: Routes): boolean {
  const { virtualServices, httpRoutes, grpcRoutes, tcpRoutes, tlsRoutes } = sources;
  const wanted = new Set(hosts);
  for (const routes of [virtualServices, httpRoutes, grpcRoutes, tcpRoutes, tlsRoutes]) {
    for (const [, { spec }] of routes.entries()) {
      if (hasText(spec.ok ? spec.value : spec.error, wanted)) return true;
    }
  }
  return false;
}

function hasText(value: unknown, wanted: ReadonlySet<string>): boolean {
  if (typeof value === 'string') return wanted.has(value.toLowerCase());
  if (typeof value !== 'object' || value === null) return false;
  return Object.values(value).some((one) => hasText(one, wanted));
}
