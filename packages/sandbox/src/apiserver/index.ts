export type { ApiServer, ApiServerOptions, ListenAt } from './server.ts';
export { createApiServer } from './server.ts';
export type { KubeletProxy, PodStreamRequest } from './context.ts';
export type { JsonObject, KubeObject, ObjectMeta, OwnerReference, ResourceKey } from './object.ts';
export {
  isObject,
  kubeTime,
  listAt,
  numberAt,
  objectAt,
  objectsAt,
  stringAt,
  stringsAt,
  valueAt,
} from './object.ts';
export type { DeleteOptions, ResourceStore, WatchEvent, WriteOptions } from './resource-store.ts';
export type { MintedToken, TokenCheck, TokenRequest, Tokens, User } from './tokens.ts';
export { ApiError, isApiError } from './errors.ts';
export { labelSelectorOf } from './selectors.ts';
export { serviceCidrs } from './service-addresses.ts';
