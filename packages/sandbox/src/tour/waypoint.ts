import { createSign, generateKeyPairSync } from 'node:crypto';
import { useWaypointLabel } from '@ambit/api';
import type { TourCluster, TourPod } from './cluster.ts';
import { eventually } from './wait.ts';

/** What the chapters about the waypoint need of the tour. */
export interface WaypointTour {
  readonly cluster: TourCluster;
  readonly chapter: (title: string) => void;
  readonly say: (text: string) => void;
  readonly prove: (ok: boolean, text: string) => void;
}

const namespace = 'shop';
const url = 'http://reviews.shop:8080';
const frontend = 'http://frontend.shop:8080';
const settleMs = 15_000;

interface Answer {
  readonly status: number;
  readonly version: string;
  readonly seconds: number;
}

/** Deploys a waypoint and shows routing, resilience and policy by their results; leaves nothing behind. */
export async function showWaypoint(tour: WaypointTour): Promise<void> {
  const made: object[] = [];
  const apply = async (object: object): Promise<void> => {
    made.push(object);
    await tour.cluster.apply(object);
  };
  await deploy(tour);
  await split(tour, apply);
  await byHeader(tour, apply);
  await retry(tour, apply);
  await timeOut(tour, apply);
  await breakCircuit(tour, apply);
  await ejectBroken(tour, apply);
  await policy(tour, apply);
  await token(tour, apply);
  await standing(tour);
  await release(tour);
  for (const object of made.reverse()) {
    if (await tour.cluster.exists(object)) await tour.cluster.remove(object);
  }
  const { ok, text } = await tour.cluster.ambitctl('waypoint', 'delete', '-n', namespace);
  if (!ok) throw new Error(text);
}

type Apply = (object: object) => Promise<void>;

async function deploy({ cluster, chapter, say, prove }: WaypointTour): Promise<void> {
  chapter('5. A waypoint: a proxy for the requests of a namespace');
  const command = ['waypoint', 'apply', '-n', namespace, '--enroll-namespace', '--wait'];
  say(`ambitctl ${command.join(' ')}`);
  const { ok, text } = await cluster.ambitctl(...command);
  prove(ok, text.replaceAll('\n', '; '));
  const ready = await eventually(async () => {
    const pods = await cluster.pods(namespace);
    return pods.find(
      ({ labels, ready: isReady }) =>
        labels.get('gateway.networking.k8s.io/gateway-name') === 'waypoint' && isReady,
    );
  }, settleMs);
  prove(ready !== undefined, `the controller deployed it: pod ${ready?.name ?? ''} is ready`);
  const logged = await eventually(async () => {
    await askOnce(cluster, []);
    const log = ready === undefined ? '' : await cluster.logs(namespace, ready.name);
    return log.split('\n').find((line) => line.includes('"GET / HTTP/1.1" 200'));
  }, settleMs);
  prove(logged !== undefined, `requests pass it: ${(logged ?? '').slice(0, 70)}…`);
}

/** A waypoint that fell over would have come back by now, and nobody might have noticed. */
async function standing({ cluster, say, prove }: WaypointTour): Promise<void> {
  const pods = (await cluster.pods(namespace)).filter(({ labels }) =>
    labels.has('gateway.networking.k8s.io/gateway-name'),
  );
  const fallen = pods.filter(({ restarts }) => restarts > 0);
  prove(
    pods.length > 0 && fallen.length === 0,
    'the waypoint served all of this without a restart',
  );
  for (const { name } of fallen) {
    const log = await cluster.logs(namespace, name, true);
    for (const line of log.trimEnd().split('\n').slice(-15)) say(line);
  }
}

/** First nobody is sent to it any more, then it goes. */
async function release({ cluster }: WaypointTour): Promise<void> {
  await cluster.label(namespace, useWaypointLabel, null);
  const pods = await cluster.pods('clients');
  await eventually(async () => {
    const { output } = await cluster.exec('clients', clientOf(pods).name, [
      'curl',
      '-s',
      `${frontend}/`,
    ]);
    return clientOf(pods).ips.some((ip) => output.includes(`"caller":"${ip}"`)) || undefined;
  }, settleMs);
}

function clientOf(pods: readonly TourPod[]): TourPod {
  const pod = pods.find(({ labels, ready: isReady }) => labels.get('app') === 'client' && isReady);
  if (pod === undefined) throw new Error('no client is ready');
  return pod;
}

const subsets = {
  apiVersion: 'networking.istio.io/v1',
  kind: 'DestinationRule',
  metadata: { name: 'tour-reviews', namespace },
  spec: {
    host: 'reviews',
    subsets: ['v1', 'v2', 'v3', 'v4'].map((name) => ({ name, labels: { version: name } })),
  },
};

function routes(...http: object[]): object {
  return {
    apiVersion: 'networking.istio.io/v1',
    kind: 'VirtualService',
    metadata: { name: 'tour-reviews', namespace },
    spec: { hosts: ['reviews'], http },
  };
}

function to(subset: string, weight?: number): object {
  return {
    destination: { host: 'reviews', subset },
    ...(weight === undefined ? {} : { weight }),
  };
}

async function split(tour: WaypointTour, apply: Apply): Promise<void> {
  tour.chapter('6. Split 80/20 between two versions');
  tour.say('kubectl apply: DestinationRule with subsets, VirtualService reviews: v1 80, v2 20');
  await apply(subsets);
  await apply(routes({ route: [to('v1', 80), to('v2', 20)] }));
  await settled(tour.cluster, [], (answers) => answers.some(({ version }) => version === 'v1'));
  const answers = await ask(tour.cluster, 1000, []);
  const count = (wanted: string): number =>
    answers.filter(({ version }) => version === wanted).length;
  const share = count('v2') / 10;
  tour.prove(
    answers.every(({ status }) => status === 200) && share > 15 && share < 25,
    `of ${answers.length} requests v1 answered ${count('v1')}, v2 ${count('v2')} (${share.toFixed(1)} %)`,
  );
}

async function byHeader(tour: WaypointTour, apply: Apply): Promise<void> {
  tour.chapter('7. The new version for testers only, by header');
  const tester = ['-H', 'x-user: tester'];
  await apply(
    routes(
      { match: [{ headers: { 'x-user': { exact: 'tester' } } }], route: [to('v2')] },
      { route: [to('v1')] },
    ),
  );
  await settled(tour.cluster, [], (answers) => answers.every(({ version }) => version === 'v1'));
  const testers = await ask(tour.cluster, 50, tester);
  const others = await ask(tour.cluster, 50, []);
  tour.prove(
    testers.every(({ version }) => version === 'v2'),
    'with x-user: tester all 50 requests reach v2',
  );
  tour.prove(
    others.every(({ version }) => version === 'v1'),
    'without it all 50 reach v1',
  );
}

/** A version of reviews that is broken or slow; not ready before it listens. */
function version(name: string, env: readonly object[], app = 'reviews'): object {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: `tour-reviews-${name}`,
      namespace,
      labels: { app, version: name },
    },
    spec: {
      serviceAccountName: 'reviews',
      terminationGracePeriodSeconds: 1,
      containers: [
        {
          name: 'reviews',
          image: 'ambit/samples',
          command: ['node', 'shop/reviews.mjs'],
          env: [{ name: 'VERSION', value: name }, ...env],
          ports: [{ name: 'http', containerPort: 8080 }],
          readinessProbe: { httpGet: { path: '/healthz', port: 8080 }, periodSeconds: 1 },
        },
      ],
    },
  };
}

async function ready({ cluster }: WaypointTour, name: string): Promise<void> {
  await eventually(async () => {
    const pods = await cluster.pods(namespace);
    return pods.some((pod) => pod.name === `tour-reviews-${name}` && pod.ready) || undefined;
  }, settleMs);
}

async function retry(tour: WaypointTour, apply: Apply): Promise<void> {
  tour.chapter('8. Retries: a version that fails half of the time');
  await apply(version('v3', [{ name: 'FAIL_PERCENT', value: '50' }]));
  await ready(tour, 'v3');
  const without = { attempts: 0 };
  await apply(routes({ route: [to('v3')], retries: without }));
  await settled(tour.cluster, [], (answers) => answers.some(({ status }) => status === 503));
  const bare = (await ask(tour.cluster, 100, [])).filter(({ status }) => status !== 200).length;
  tour.prove(bare > 20, `without retries ${bare} of 100 requests fail`);
  // With a dozen, one tour in eighty would show an error by chance alone.
  await apply(
    routes({
      route: [to('v3')],
      retries: { attempts: 30, retryOn: '5xx', backoff: '1ms' },
    }),
  );
  await settled(tour.cluster, [], (answers) => answers.every(({ status }) => status === 200));
  const failed = (await ask(tour.cluster, 100, [])).filter(({ status }) => status !== 200).length;
  tour.prove(
    failed === 0,
    `with retries ${failed} of 100 fail: the caller sees none of its errors`,
  );
}

async function timeOut(tour: WaypointTour, apply: Apply): Promise<void> {
  tour.chapter('9. A timeout for a slow version');
  await apply(version('v4', [{ name: 'SLOW_MS', value: '2000' }]));
  await ready(tour, 'v4');
  await apply(routes({ route: [to('v4')], timeout: '0.2s', retries: { attempts: 0 } }));
  await settled(tour.cluster, [], (answers) => answers.every(({ status }) => status === 504));
  const [answer] = await ask(tour.cluster, 1, []);
  tour.prove(
    answer?.status === 504 && answer.seconds < 1,
    `v4 takes 2 s; the caller has its 504 after ${answer?.seconds.toFixed(2) ?? '?'} s`,
  );
}

/** At a Service of its own: the shop itself asks for reviews all the time, and would take the few places there are. */
async function breakCircuit(tour: WaypointTour, apply: Apply): Promise<void> {
  tour.chapter('10. Circuit breakers: for the slow version, and for a broken one');
  const slow = 'tour-slow';
  await apply({
    apiVersion: 'networking.istio.io/v1',
    kind: 'DestinationRule',
    metadata: { name: slow, namespace },
    spec: {
      host: slow,
      trafficPolicy: {
        connectionPool: { tcp: { maxConnections: 1 }, http: { http1MaxPendingRequests: 1 } },
      },
    },
  });
  await apply({
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: slow, namespace },
    spec: {
      selector: { app: 'reviews', version: 'v4' },
      ports: [{ name: 'http', port: 8080, targetPort: 'http' }],
    },
  });
  const atOnce = ['--parallel', '--parallel-immediate', '--parallel-max', '6'];
  const seen = await eventually(async () => {
    const answers = await askAt(tour.cluster, `http://${slow}.shop:8080/?n=[1-6]`, 6, atOnce);
    const refused = answers.filter(({ status }) => status === 503);
    const served = answers.some(({ status }) => status === 200);
    return served && refused.length >= 3 && refused.every(({ seconds }) => seconds < 1)
      ? { refused: refused.length, slowest: Math.max(...refused.map(({ seconds }) => seconds)) }
      : undefined;
  }, settleMs);
  tour.prove(
    seen !== undefined,
    `of 6 requests at once ${seen?.refused ?? 0} are refused within ${(seen?.slowest ?? 0).toFixed(2)} s instead of queueing up`,
  );
  await apply(routes({ route: [to('v1')] }));
  await settled(tour.cluster, [], (answers) =>
    answers.every(({ version: seenVersion }) => seenVersion === 'v1'),
  );
}

/** A Service of two endpoints, one of which always fails: without retries its caller would see every other request fail. */
async function ejectBroken(tour: WaypointTour, apply: Apply): Promise<void> {
  tour.say('kubectl apply: Service mixed with a good and a broken endpoint, outlierDetection');
  const app = 'tour-mixed';
  await apply(version('v5', [], app));
  await apply(version('v6', [{ name: 'FAIL_PERCENT', value: '100' }], app));
  await apply({
    apiVersion: 'networking.istio.io/v1',
    kind: 'VirtualService',
    metadata: { name: app, namespace },
    spec: {
      hosts: [app],
      http: [{ route: [{ destination: { host: app } }], retries: { attempts: 0 } }],
    },
  });
  await apply({
    apiVersion: 'networking.istio.io/v1',
    kind: 'DestinationRule',
    metadata: { name: app, namespace },
    spec: {
      host: app,
      trafficPolicy: {
        // With outlier detection the nearer endpoint would get everything, wherever the two are.
        loadBalancer: { localityLbSetting: { enabled: false } },
        outlierDetection: {
          consecutive5xxErrors: 5,
          baseEjectionTime: '60s',
          maxEjectionPercent: 50,
        },
      },
    },
  });
  await apply({
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: app, namespace },
    spec: { selector: { app }, ports: [{ name: 'http', port: 8080, targetPort: 'http' }] },
  });
  for (const name of ['v5', 'v6']) await ready(tour, name);
  const at = `http://${app}.shop:8080/`;
  let failures = 0;
  const seen = await eventually(async () => {
    const answers = await askAt(tour.cluster, `${at}?n=[1-20]`, 20, []);
    failures += answers.filter(({ status }) => status === 503).length;
    return failures >= 5 && answers.every(({ status }) => status === 200) ? failures : undefined;
  }, settleMs);
  const after = await askAt(tour.cluster, `${at}?n=[1-100]`, 100, []);
  const failing = after.filter(({ status }) => status !== 200).length;
  tour.prove(
    seen !== undefined && failing === 0,
    `a broken endpoint is taken out after ${seen ?? 0} failures: of the next 100 requests ${failing} fail`,
  );
}

async function policy(tour: WaypointTour, apply: Apply): Promise<void> {
  tour.chapter('11. A policy about requests: nobody may DELETE');
  await apply({
    apiVersion: 'security.istio.io/v1',
    kind: 'AuthorizationPolicy',
    metadata: { name: 'tour-no-delete', namespace },
    spec: {
      targetRefs: [{ group: '', kind: 'Service', name: 'reviews' }],
      action: 'DENY',
      rules: [{ to: [{ operation: { methods: ['DELETE'] } }] }],
    },
  });
  await settled(tour.cluster, ['-X', 'DELETE'], (answers) =>
    answers.every(({ status }) => status === 403),
  );
  const [deleted] = await ask(tour.cluster, 1, ['-X', 'DELETE']);
  const [got] = await ask(tour.cluster, 1, []);
  tour.prove(deleted?.status === 403, `DELETE is answered ${deleted?.status ?? 0}`);
  tour.prove(got?.status === 200, `GET is answered ${got?.status ?? 0}`);
  const pods = await tour.cluster.pods(namespace);
  const pod = pods.find(({ labels }) => labels.get('app') === 'reviews');
  const past = await askAt(tour.cluster, `http://${pod?.ip ?? ''}:8080/`, 1, []);
  tour.prove(
    (past[0]?.status ?? 0) === 0,
    'a call straight to a pod, past the waypoint that enforces it, is refused',
  );
}

async function token(tour: WaypointTour, apply: Apply): Promise<void> {
  tour.chapter('12. A token: who asks must show a JWT');
  const { jwks, jwt } = issue();
  const targetRefs = [{ group: '', kind: 'Service', name: 'reviews' }];
  await apply({
    apiVersion: 'security.istio.io/v1',
    kind: 'RequestAuthentication',
    metadata: { name: 'tour-jwt', namespace },
    spec: { targetRefs, jwtRules: [{ issuer: 'https://tour.example', jwks }] },
  });
  await apply({
    apiVersion: 'security.istio.io/v1',
    kind: 'AuthorizationPolicy',
    metadata: { name: 'tour-jwt', namespace },
    spec: {
      targetRefs,
      rules: [{ from: [{ source: { requestPrincipals: ['https://tour.example/tourist'] } }] }],
    },
  });
  await settled(tour.cluster, [], (answers) => answers.every(({ status }) => status === 403));
  const status = async (value: string): Promise<number> =>
    (await ask(tour.cluster, 1, ['-H', `authorization: Bearer ${value}`]))[0]?.status ?? 0;
  const [none] = await ask(tour.cluster, 1, []);
  tour.prove(none?.status === 403, `without a token: ${none?.status ?? 0}`);
  const bad = await status(`${jwt.slice(0, -8)}AAAAAAAA`);
  tour.prove(bad === 401, `with a forged one: ${bad}`);
  const good = await status(jwt);
  tour.prove(good === 200, `with a good one: ${good}`);
}

/** A key set and a token that it verifies. */
function issue(): { readonly jwks: string; readonly jwt: string } {
  const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const key = { ...publicKey.export({ format: 'jwk' }), kid: 'tour', alg: 'RS256', use: 'sig' };
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  const head = part({ alg: 'RS256', kid: 'tour', typ: 'JWT' });
  const body = part({
    iss: 'https://tour.example',
    sub: 'tourist',
    exp: Math.floor(Date.now() / 1000) + 3600,
  });
  const signature = createSign('RSA-SHA256')
    .update(`${head}.${body}`)
    .sign(privateKey, 'base64url');
  return { jwks: JSON.stringify({ keys: [key] }), jwt: `${head}.${body}.${signature}` };
}

async function askOnce(
  cluster: TourCluster,
  options: readonly string[],
): Promise<Answer | undefined> {
  return (await ask(cluster, 1, options))[0];
}

function ask(cluster: TourCluster, count: number, options: readonly string[]): Promise<Answer[]> {
  return askAt(cluster, count === 1 ? `${url}/` : `${url}/?n=[1-${count}]`, count, options);
}

const mark = '##';

/** Requests from the client's pod by curl, one connection for all of them unless they are parallel. */
async function askAt(
  cluster: TourCluster,
  target: string,
  count: number,
  options: readonly string[],
): Promise<Answer[]> {
  const pod = clientOf(await cluster.pods('clients'));
  const { output } = await cluster.exec('clients', pod.name, [
    'curl',
    '-s',
    '-m',
    String(10 + count / 20),
    ...options,
    '-w',
    `${mark}%{http_code} %{time_total}\\n`,
    target,
  ]);
  // A body is one line; the figures follow it.
  let version = '';
  return output.split('\n').flatMap((line) => {
    const [body = '', figures] = line.split(mark);
    version = /"version":"(v\d)"/.exec(body)?.[1] ?? version;
    if (figures === undefined) return [];
    const [status, seconds] = figures.trim().split(' ').map(Number);
    const answer = { status: status ?? 0, seconds: seconds ?? 0, version };
    version = '';
    return [answer];
  });
}

/** Configuration takes a moment to arrive: waits until ten answers in a row are as they are to be. */
async function settled(
  cluster: TourCluster,
  options: readonly string[],
  holds: (answers: readonly Answer[]) => boolean,
): Promise<void> {
  await eventually(async () => {
    const answers = await ask(cluster, 10, options);
    return (answers.length === 10 && holds(answers)) || undefined;
  }, settleMs);
}
