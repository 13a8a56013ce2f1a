import tseslint from 'typescript-eslint';

const restrictedOutsideConfig = [
  {
    object: 'process',
    property: 'env',
    message:
      'Read the environment in config.ts through EnvSource, so all problems are told at once.',
  },
  {
    object: 'process',
    property: 'exit',
    message: 'Only main.ts ends the process; everything else drains and returns.',
  },
];

const clocks = ['Date', 'setTimeout', 'setInterval', 'setImmediate'].map((name) => ({
  name,
  message: 'Pure decision files know no clock; take the time as a parameter.',
}));

export default tseslint.config(
  {
    ignores: [
      '**/dist/**',
      '**/node_modules/**',
      '.sandbox/**',
      '.cache/**',
      '**/*.cjs',
      'bench/results/**',
    ],
  },
  {
    files: ['**/*.ts'],
    extends: [...tseslint.configs.strictTypeChecked],
    languageOptions: { parserOptions: { projectService: true } },
    rules: {
      // Crashes on inline type literals in typescript-eslint 8.73.
      '@typescript-eslint/unified-signatures': 'off',
      '@typescript-eslint/switch-exhaustiveness-check': [
        'error',
        { considerDefaultExhaustiveForUnions: true },
      ],
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/explicit-module-boundary-types': 'error',
      '@typescript-eslint/restrict-template-expressions': [
        'error',
        { allowNumber: true, allowBoolean: true },
      ],
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      '@typescript-eslint/no-unnecessary-condition': [
        'error',
        { allowConstantLoopConditions: true },
      ],
      eqeqeq: 'error',
      'no-console': 'error',
      complexity: ['error', 15],
      'max-depth': ['error', 4],
      'max-params': ['error', 5],
      'max-lines': ['error', { max: 500 }],
      'max-lines-per-function': ['error', { max: 80, skipBlankLines: true, skipComments: true }],
      'no-restricted-properties': ['error', ...restrictedOutsideConfig],
      'no-restricted-syntax': [
        'error',
        {
          selector: 'ExportDefaultDeclaration',
          message: 'Named exports only: a name is the same everywhere.',
        },
      ],
    },
  },
  {
    files: [
      '**/plan.ts',
      '**/translate/*.ts',
      '**/policy/authorize.ts',
      'packages/api/src/**/*.ts',
    ],
    ignores: ['**/*.test.ts'],
    rules: { 'no-restricted-globals': ['error', ...clocks] },
  },
  {
    files: ['**/config.ts', '**/main.ts', '**/config/env.ts', 'e2e/**', 'bench/**'],
    rules: { 'no-restricted-properties': 'off', 'no-console': 'off' },
  },
  {
    files: ['**/*.test.ts', '**/test/**', 'e2e/**', 'packages/testkit/**', 'bench/**'],
    rules: {
      'max-lines-per-function': 'off',
      'max-lines': 'off',
      'no-restricted-properties': 'off',
      '@typescript-eslint/no-non-null-assertion': 'off',
      '@typescript-eslint/explicit-module-boundary-types': 'off',
    },
  },
  {
    files: ['**/*.mjs', '**/*.js'],
    languageOptions: { globals: {} },
    rules: { eqeqeq: 'error' },
  },
);
