const shared = {
  // In the clone: below /tmp the folder would be another user's, who also is root in a world of their own.
  cacheDirectory: '<rootDir>/.cache/jest',
  extensionsToTreatAsEsm: ['.ts'],
  testEnvironment: 'node',
  testEnvironmentOptions: { customExportConditions: ['mesh-source', 'node', 'node-addons'] },
  transform: { '\\.ts$': '<rootDir>/scripts/jest-transform.mjs' },
  modulePathIgnorePatterns: ['/dist/', '/.sandbox/', '/.cache/'],
};

/** Five rings: in process, on real sockets, what users install, in network namespaces, in whole clusters (both run through scripts/netns.mjs). */
export default {
  projects: [
    { ...shared, displayName: 'unit', testMatch: ['<rootDir>/packages/*/src/**/*.test.ts'] },
    { ...shared, displayName: 'integration', testMatch: ['<rootDir>/packages/*/test/*.test.ts'] },
    {
      ...shared,
      displayName: 'netns',
      testMatch: [
        '<rootDir>/packages/*/test/netns/*.test.ts',
        '<rootDir>/e2e/node-proxy/*.test.ts',
      ],
    },
    { ...shared, displayName: 'charts', testMatch: ['<rootDir>/e2e/charts/*.test.ts'] },
    { ...shared, displayName: 'e2e', testMatch: ['<rootDir>/e2e/mesh/*.test.ts'] },
    {
      ...shared,
      displayName: 'kubernetes',
      testMatch: ['<rootDir>/e2e/kubernetes/*.test.ts'],
    },
  ],
  testTimeout: 20_000,
  // ES modules of test files stay behind: at 1.4 GB a collection stopped a test for a second.
  workerIdleMemoryLimit: '512MB',
};
