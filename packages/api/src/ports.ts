/** Ports of Istio's ambient mode (contracts.md §2). */
export const outboundPort = 15001;
export const inboundPlaintextPort = 15006;
export const hbonePort = 15008;
export const dnsPort = 15053;
export const adminPort = 15000;
export const metricsPort = 15020;
export const readinessPort = 15021;
/** The controller's control channel and certificate authority. */
export const controlPort = 15012;
/** The controller's own metrics and debug views. */
export const controllerMetricsPort = 15014;
/** Admission reviews from the API server, over TLS. */
export const webhookPort = 15017;

/** Ports inside a pod's network namespace that belong to the mesh: never a legal target of anybody's traffic. */
export const meshPorts: ReadonlySet<number> = new Set([
  adminPort,
  outboundPort,
  inboundPlaintextPort,
  hbonePort,
  metricsPort,
  readinessPort,
  dnsPort,
]);

/** The mark on every packet of a proxy's own sockets, and its mask (contracts.md §3). */
export const proxyMark = 0x539;
export const proxyMarkMask = 0xfff;
/** The connection mark of connections that the proxy opened with the client's address. */
export const proxyConnectionMark = 0x111;

/** The link-local address to which the node's kubelet is translated when it probes a pod. */
export const probeSourceIpv4 = '169.254.7.127';
export const probeSourceIpv6 = 'fd16:9254:7127:1337:ffff:ffff:ffff:ffff';
