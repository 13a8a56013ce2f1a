import {
  controlAudience,
  gatewayManagedLabel,
  gatewayNameLabel,
  hbonePort,
  metricsPort,
  readinessPort,
  rootCertConfigMap,
} from '@ambit/api';

import type { ContainerResources, ImagePullPolicy } from '../config.ts';
import { managedBy } from '../kube/decode/owner.ts';
import type { CompiledWaypoint } from '../translate/waypoint.ts';

export interface DeploySettings {
  readonly image: string;
  readonly imagePullPolicy: ImagePullPolicy | undefined;
  /** Names of Secrets of the waypoint's namespace. */
  readonly imagePullSecrets: readonly string[];
  readonly resources: ContainerResources;
  /** `host:port` at which the controller is reached. */
  readonly controller: string;
  readonly clusterId: string;
  readonly trustDomain: string;
  /** Ranges that waypoints may ask for keys although they are closed by default; none when absent. */
  readonly jwksAllowedCidrs?: readonly string[];
}

/** An object to be applied, and the path of its collection. */
export interface Deployed {
  readonly collection: string;
  readonly object: {
    readonly apiVersion: string;
    readonly kind: string;
    readonly metadata: {
      readonly name: string;
      readonly namespace: string;
      readonly labels: Readonly<Record<string, string>>;
      readonly annotations?: Readonly<Record<string, string>>;
      readonly ownerReferences: readonly { readonly uid: string }[];
    };
  };
}

/** Pure: what a waypoint needs in the cluster, the ServiceAccount before the Deployment that runs under it. Its owner is the Gateway, so that all of it goes when that goes. */
export function waypointObjects(waypoint: CompiledWaypoint, settings: DeploySettings): Deployed[] {
  const { meta, infrastructure } = waypoint;
  const { name, namespace } = meta;
  const selector = { [gatewayNameLabel]: name };
  const labels = { ...infrastructure.labels, ...selector, [gatewayManagedLabel]: managedBy };
  const metadata = {
    name,
    namespace,
    labels,
    annotations: infrastructure.annotations,
    ownerReferences: [
      {
        apiVersion: 'gateway.networking.k8s.io/v1',
        kind: 'Gateway',
        name,
        uid: meta.uid,
        controller: true,
      },
    ],
  };
  return [
    {
      collection: `/api/v1/namespaces/${namespace}/serviceaccounts`,
      object: { apiVersion: 'v1', kind: 'ServiceAccount', metadata },
    },
    {
      collection: `/apis/apps/v1/namespaces/${namespace}/deployments`,
      object: {
        apiVersion: 'apps/v1',
        kind: 'Deployment',
        metadata,
        spec: {
          selector: { matchLabels: selector },
          // One is ready before another goes. Replicas are whoever scaled it to say.
          strategy: { type: 'RollingUpdate', rollingUpdate: { maxUnavailable: 0, maxSurge: 1 } },
          template: podTemplate(waypoint, labels, settings),
        },
      } as Deployed['object'],
    },
    {
      collection: `/api/v1/namespaces/${namespace}/services`,
      object: {
        apiVersion: 'v1',
        kind: 'Service',
        metadata,
        spec: {
          selector,
          ipFamilyPolicy: 'PreferDualStack',
          ports: [
            {
              name: 'status-port',
              port: readinessPort,
              targetPort: readinessPort,
              protocol: 'TCP',
            },
            { name: 'mesh', port: hbonePort, targetPort: hbonePort, protocol: 'TCP' },
          ],
        },
      } as Deployed['object'],
    },
  ];
}

const probes = {
  readinessProbe: {
    httpGet: { path: '/healthz/ready', port: readinessPort },
    periodSeconds: 1,
    failureThreshold: 4,
  },
  // Not whether it is ready: without a controller it serves what it knows.
  livenessProbe: {
    httpGet: { path: '/healthz/live', port: readinessPort },
    periodSeconds: 10,
    timeoutSeconds: 5,
    failureThreshold: 6,
  },
};

function podTemplate(
  { meta, infrastructure }: CompiledWaypoint,
  labels: Readonly<Record<string, string>>,
  settings: DeploySettings,
): object {
  return {
    metadata: {
      // A waypoint speaks HBONE itself: nothing of its traffic is for the node's proxy.
      labels: {
        ...labels,
        'istio.io/dataplane-mode': 'none',
        'service.istio.io/canonical-name': meta.name,
        'service.istio.io/canonical-revision': 'latest',
      },
      annotations: {
        ...infrastructure.annotations,
        'prometheus.io/scrape': 'true',
        'prometheus.io/port': String(metricsPort),
      },
    },
    spec: {
      serviceAccountName: meta.name,
      terminationGracePeriodSeconds: 30,
      // The image is of Linux, and nodes of Windows seldom have a taint.
      nodeSelector: { 'kubernetes.io/os': 'linux' },
      ...(settings.imagePullSecrets.length === 0
        ? {}
        : { imagePullSecrets: settings.imagePullSecrets.map((name) => ({ name })) }),
      containers: [
        {
          name: 'istio-proxy',
          image: settings.image,
          ...(settings.imagePullPolicy === undefined
            ? {}
            : { imagePullPolicy: settings.imagePullPolicy }),
          env: environment(meta.name, settings),
          ports: [
            { name: 'mesh', containerPort: hbonePort },
            { name: 'status-port', containerPort: readinessPort },
            { name: 'http-metrics', containerPort: metricsPort },
          ],
          ...probes,
          resources: settings.resources,
          securityContext: {
            allowPrivilegeEscalation: false,
            runAsNonRoot: true,
            readOnlyRootFilesystem: true,
            capabilities: { drop: ['ALL'] },
            seccompProfile: { type: 'RuntimeDefault' },
          },
          volumeMounts: [
            { name: 'istio-token', mountPath: '/var/run/secrets/tokens', readOnly: true },
            { name: rootCertConfigMap, mountPath: '/var/run/secrets/istio', readOnly: true },
          ],
        },
      ],
      volumes: [
        {
          name: 'istio-token',
          projected: {
            sources: [
              {
                serviceAccountToken: {
                  path: 'istio-token',
                  expirationSeconds: 43_200,
                  audience: controlAudience,
                },
              },
            ],
          },
        },
        { name: rootCertConfigMap, configMap: { name: rootCertConfigMap } },
      ],
    },
  };
}

function environment(name: string, settings: DeploySettings): readonly object[] {
  const from = (fieldPath: string) => ({ valueFrom: { fieldRef: { fieldPath } } });
  const { jwksAllowedCidrs: allowed = [] } = settings;
  return [
    { name: 'GATEWAY_NAME', value: name },
    { name: 'POD_NAME', ...from('metadata.name') },
    { name: 'POD_NAMESPACE', ...from('metadata.namespace') },
    { name: 'SERVICE_ACCOUNT', ...from('spec.serviceAccountName') },
    { name: 'NODE_NAME', ...from('spec.nodeName') },
    { name: 'CONTROLLER_ADDRESS', value: settings.controller },
    { name: 'CLUSTER_ID', value: settings.clusterId },
    { name: 'TRUST_DOMAIN', value: settings.trustDomain },
    // Only where it is said, so that waypoints of everybody else are not rolled out anew.
    ...(allowed.length === 0 ? [] : [{ name: 'JWKS_ALLOWED_CIDRS', value: allowed.join(',') }]),
  ];
}
