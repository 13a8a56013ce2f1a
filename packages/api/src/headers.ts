/** Headers of a CONNECT request and its answer (contracts.md §5). */
export const baggageHeader = 'baggage';
export const forwardedHeader = 'forwarded';
export const traceparentHeader = 'traceparent';

/** Labels and annotations of Istio's ambient mode that more than one program reads (contracts.md §1). */
export const dataplaneModeLabel = 'istio.io/dataplane-mode';
export const redirectionAnnotation = 'ambient.istio.io/redirection';
export const useWaypointLabel = 'istio.io/use-waypoint';
export const trafficDistributionAnnotation = 'networking.istio.io/traffic-distribution';
export const dryRunAnnotation = 'istio.io/dry-run';

/** Audience of the tokens with which proxies come to the controller. */
export const controlAudience = 'istio-ca';
/** ConfigMap in every namespace that holds the mesh's roots under `root-cert.pem`. */
export const rootCertConfigMap = 'istio-ca-root-cert';
export const rootCertKey = 'root-cert.pem';
