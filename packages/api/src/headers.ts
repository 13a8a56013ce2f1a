/** Headers of a CONNECT request and its answer (contracts.md §5). */
export const baggageHeader = 'baggage';
export const forwardedHeader = 'forwarded';
export const traceparentHeader = 'traceparent';
/** SPIFFE identity of the client for whom a waypoint opens a tunnel; believed from that workload's waypoint only. */
export const clientIdentityHeader = 'x-ambit-client-identity';

/** Labels and annotations of Istio's ambient mode that more than one program reads (contracts.md §1). */
export const dataplaneModeLabel = 'istio.io/dataplane-mode';
export const redirectionAnnotation = 'ambient.istio.io/redirection';
export const useWaypointLabel = 'istio.io/use-waypoint';
export const useWaypointNamespaceLabel = 'istio.io/use-waypoint-namespace';
export const waypointForLabel = 'istio.io/waypoint-for';
export const gatewayNameLabel = 'gateway.networking.k8s.io/gateway-name';
export const gatewayManagedLabel = 'gateway.istio.io/managed';
/** `direct`: what a missing or unready waypoint leaves open, against the default of refusing. */
export const withoutWaypointAnnotation = 'ambit.dev/without-waypoint';
/** `allow`: take what did not come through the waypoint although an L7 policy holds. */
export const bypassWaypointAnnotation = 'ambit.dev/bypass-waypoint';
/** On a waypoint's Gateway: principals, separated by commas, whose `x-forwarded-*` headers are believed. */
export const trustedForwardersAnnotation = 'ambit.dev/trusted-forwarders';
/** Istio's: `true` on a waypoint's Gateway names the client in `x-forwarded-client-cert`. */
export const xfccClientIdentityAnnotation = 'ambient.istio.io/xfcc-include-client-identity';
/** On a Service: `path=/healthz,interval=5s,timeout=1s,unhealthy=3,healthy=2,port=80`. */
export const healthCheckAnnotation = 'ambit.dev/health-check';
export const waypointClass = 'istio-waypoint';
export const trafficDistributionAnnotation = 'networking.istio.io/traffic-distribution';
export const dryRunAnnotation = 'istio.io/dry-run';

/** Name of the node agents' DaemonSet, and the value of the label `app` of their pods. */
export const agentDaemonSet = 'cni-redirect';
/** On that DaemonSet, `true` while the mesh is taken off the cluster: agents then release every pod. Goes with it. */
export const leavingAnnotation = 'ambit.dev/leaving';
/** On a node agent's pod: it has released its node's pods and taken its plugin away. */
export const leftAnnotation = 'ambit.dev/left';

/** Audience of the tokens with which proxies come to the controller. */
export const controlAudience = 'istio-ca';
/** ConfigMap in every namespace that holds the mesh's roots under `root-cert.pem`. */
export const rootCertConfigMap = 'istio-ca-root-cert';
export const rootCertKey = 'root-cert.pem';
