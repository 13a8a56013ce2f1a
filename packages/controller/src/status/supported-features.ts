/**
 * Optional features of the Gateway API for meshes, under its own names. The conformance run asks for these and those of
 * routes, and all of them pass. The Gateway API has them told elsewhere than on a GatewayClass.
 */
export const meshFeatures = [
  'MeshClusterIPMatching',
  'MeshConsumerRoute',
  'MeshHTTPRouteBackendRequestHeaderModification',
  'MeshHTTPRouteNamedRouteRule',
  'MeshHTTPRouteQueryParamMatching',
  'MeshHTTPRouteRedirectPath',
  'MeshHTTPRouteRedirectPort',
  'MeshHTTPRouteRewritePath',
  'MeshHTTPRouteSchemeRedirect',
] as const;

/** Those of routes, which `status.supportedFeatures` of the GatewayClass lists; it wants them sorted. */
export const routeFeatures = [
  'HTTPRoute303RedirectStatusCode',
  'HTTPRoute307RedirectStatusCode',
  'HTTPRoute308RedirectStatusCode',
  'HTTPRouteParentRefPort',
  'HTTPRouteResponseHeaderModification',
] as const;
