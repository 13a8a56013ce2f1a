const app = '(ztunnel|waypoint|controller|cni-redirect)';

/** Layers point one way: sandbox, e2e, bench -> apps -> core -> api. */
module.exports = {
  forbidden: [
    {
      name: 'no-cycles',
      severity: 'error',
      comment: 'A cycle means two files are one thing.',
      from: {},
      to: { circular: true },
    },
    {
      name: 'api-imports-nothing',
      severity: 'error',
      comment: 'api holds nouns and the wire contract; it does no I/O.',
      from: { path: '^packages/api/src', pathNot: '\\.test\\.ts$' },
      to: { pathNot: '^packages/api/src' },
    },
    {
      name: 'core-imports-only-api',
      severity: 'error',
      comment: 'core is shared by every program and so knows none of them.',
      from: { path: '^packages/core/src', pathNot: '\\.test\\.ts$' },
      to: { path: '^packages/(?!api/|core/)' },
    },
    {
      name: 'apps-never-import-each-other',
      severity: 'error',
      comment: 'The four programs speak over sockets; a shared file belongs in core or api.',
      from: { path: `^packages/${app}/` },
      to: { path: `^packages/${app}/`, pathNot: '^packages/$1/' },
    },
    {
      name: 'nothing-below-imports-the-sandbox',
      severity: 'error',
      comment: 'The mesh does not know that a sandbox exists.',
      from: { path: `^packages/(api|core|testkit|${app})/` },
      to: { path: '^packages/(sandbox|cli)/' },
    },
    {
      name: 'kubernetes-at-the-edge',
      severity: 'error',
      comment: 'Proxies know no Kubernetes (design decision 1).',
      from: {
        path: '^packages/',
        pathNot: '^packages/(controller|cni-redirect/src/agent|sandbox)/',
      },
      to: { path: '@kubernetes/' },
    },
    {
      name: 'testkit-only-in-tests',
      severity: 'error',
      comment: 'Test builders never reach a program.',
      from: { path: '^packages/(?!testkit/)', pathNot: '(\\.test\\.ts$|/test/)' },
      to: { path: '^packages/testkit/' },
    },
    {
      name: 'decisions-do-no-io',
      severity: 'error',
      comment: 'plan.ts, translate/ and authorize.ts decide; others act.',
      from: { path: '(/plan\\.ts$|/translate/|/policy/authorize\\.ts$)', pathNot: '\\.test\\.ts$' },
      to: { path: '^(node:)?(net|tls|http|http2|fs|child_process|dgram)(/|$)' },
    },
    {
      name: 'x509-in-two-rooms',
      severity: 'error',
      comment:
        'Certificates are parsed in core/tls and issued in controller/ca; the sandbox makes those of its Kubernetes API.',
      from: {
        path: '^packages/',
        pathNot:
          '(^packages/core/src/tls/|^packages/controller/src/ca/|^packages/sandbox/src/pki\.ts$|^packages/testkit/|\\.test\\.ts$|/test/)',
      },
      to: { path: '(@peculiar/x509|node-forge)' },
    },
    {
      name: 'ffi-in-one-room',
      severity: 'error',
      comment: 'koffi lives behind core/native; everything above is plain net and tls.',
      from: { path: '^packages/', pathNot: '^packages/core/src/native/' },
      to: { path: 'koffi' },
    },
  ],
  options: {
    doNotFollow: { path: ['node_modules', 'dist'] },
    exclude: { path: ['/dist/'] },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      conditionNames: ['mesh-source', 'import', 'node', 'default'],
      exportsFields: ['exports'],
      extensions: ['.ts', '.js', '.mjs', '.json'],
    },
  },
};
