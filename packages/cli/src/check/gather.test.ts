import { expect, test } from '@jest/globals';
import { excludedBy } from './gather.ts';

const daemonSet = (value?: string) => ({
  spec: {
    template: {
      spec: {
        containers: [
          {
            name: 'agent',
            env: value === undefined ? [] : [{ name: 'EXCLUDE_NAMESPACES', value }],
          },
        ],
      },
    },
  },
});

test.each([
  ['nothing is installed', undefined, ['kube-system', 'mesh']],
  ['nothing is said', daemonSet(), ['kube-system', 'mesh']],
  ['namespaces are named', daemonSet('legacy,kube-system'), ['kube-system', 'legacy', 'mesh']],
])('pods of the excluded namespaces need not be in the mesh: %s', (_name, found, names) => {
  expect([...excludedBy(found, 'mesh')].filter((one) => one !== '').sort()).toEqual(names);
});
