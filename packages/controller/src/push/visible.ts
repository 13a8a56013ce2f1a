import type { ResourceType } from '@ambit/api';

import type { Current } from './diff.ts';

/** Whether a proxy of a namespace may be told of a resource: credentials stay in their own. */
export function isVisible(type: ResourceType, name: string, namespace: string): boolean {
  return type !== 'credential' || name.startsWith(`${namespace}/`);
}

/** What is current, as far as proxies of a namespace may know; to them the rest is not there. */
export function visibleTo(current: Current, namespace: string): Current {
  return {
    resource: (type, name) =>
      isVisible(type, name, namespace) ? current.resource(type, name) : undefined,
    all: (type) => {
      const all = current.all(type);
      return type === 'credential'
        ? new Map([...all].filter(([name]) => isVisible(type, name, namespace)))
        : all;
    },
  };
}
