/** Where a request stands in a distributed trace: `spanId` is this hop's own span, below the caller's. */
export interface TraceContext {
  /** 32 digits. */
  readonly traceId: string;
  readonly parentSpanId?: string;
  /** 16 digits. */
  readonly spanId: string;
  readonly sampled: boolean;
  /** `tracestate`, checked, for those further on. */
  readonly state?: string;
  /** How the request carried B3, if it did: it goes on in the same form, beside `traceparent`. */
  readonly b3?: B3Form;
  /** B3's debug flag: sampled, whatever anyone further on would decide. */
  readonly debug?: true;
}

export type B3Form = 'single' | 'multi' | 'both';

/** What a caller told of its trace. B3 may leave the decision open, or tell nothing but the decision. */
export interface CallerContext {
  readonly ids?: { readonly traceId: string; readonly spanId: string };
  readonly sampled?: boolean;
  readonly debug?: true;
}

export interface TraceOptions {
  /** Of the traces that begin here, and of those whose caller left the decision open. */
  readonly samplingPercent: number;
  /** From 0 up to, and without, 1. */
  readonly random: () => number;
  /** So many hexadecimal ones. */
  readonly randomDigits: (count: number) => string;
}

type ReadHeader = (name: string) => string | undefined;

/** Every header that a trace may stand in; a proxy removes these before it sets its own. */
export const traceHeaderNames = [
  'traceparent',
  'tracestate',
  'b3',
  'x-b3-traceid',
  'x-b3-spanid',
  'x-b3-parentspanid',
  'x-b3-sampled',
  'x-b3-flags',
] as const;

const names: ReadonlySet<string> = new Set(traceHeaderNames);

export function isTraceHeader(name: string): boolean {
  switch (name.charCodeAt(0)) {
    case 0x62:
    case 0x74:
      return names.has(name);
    case 0x78:
      return name.startsWith('x-b3-') && names.has(name);
    default:
      return false;
  }
}

/**
 * The context in which a request is served and sent on. `traceparent` counts before B3, and what is malformed counts as
 * not there at all; the caller's decision to sample holds, whatever is configured here.
 */
export function continueTrace(header: ReadHeader, options: TraceOptions): TraceContext {
  const caller = readCaller(header);
  const b3 = b3Form(header);
  return {
    ...(caller.ids === undefined
      ? { traceId: newId(32, options.randomDigits) }
      : { traceId: caller.ids.traceId, parentSpanId: caller.ids.spanId }),
    spanId: newId(16, options.randomDigits),
    sampled: caller.sampled ?? options.random() * 100 < options.samplingPercent,
    ...(caller.state !== undefined && { state: caller.state }),
    ...(b3 !== undefined && { b3 }),
    ...(caller.debug === true && { debug: true }),
  };
}

/** The context of a request whose caller told of no trace. */
export function beginTrace(options: TraceOptions): TraceContext {
  const ids = options.randomDigits(48);
  return {
    traceId: notZero(ids.slice(0, 32)),
    spanId: notZero(ids.slice(32)),
    sampled: options.random() * 100 < options.samplingPercent,
  };
}

function readCaller(header: ReadHeader): CallerContext & { readonly state?: string } {
  const w3c = parseTraceparent(header('traceparent') ?? '');
  if (w3c === undefined) return parseB3(header('b3') ?? '') ?? parseB3Headers(header) ?? {};
  const state = parseTracestate(header('tracestate') ?? '');
  return state === undefined ? w3c : { ...w3c, state };
}

/** The context of a further span below this one, such as that of one try. */
export function childContext(
  context: TraceContext,
  randomDigits: TraceOptions['randomDigits'],
): TraceContext {
  return { ...context, parentSpanId: context.spanId, spanId: newId(16, randomDigits) };
}

/** The headers that tell the next hop of its parent: this context's span. */
export function traceHeaders(context: TraceContext): readonly (readonly [string, string])[] {
  const headers: (readonly [string, string])[] = [['traceparent', formatTraceparent(context)]];
  if (context.state !== undefined) headers.push(['tracestate', context.state]);
  if (context.b3 === 'single' || context.b3 === 'both') headers.push(['b3', formatB3(context)]);
  if (context.b3 === 'multi' || context.b3 === 'both') headers.push(...formatB3Headers(context));
  return headers;
}

const traceparent = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;
const zeros = /^0+$/;

/**
 * W3C's `traceparent`. A version from the future is read as far as this one goes, and may have more after a dash;
 * `ff` is none.
 */
export function parseTraceparent(text: string): CallerContext | undefined {
  const [, version, traceId = '', spanId = '', flags = '', more] = traceparent.exec(text) ?? [];
  if (version === undefined || version === 'ff') return undefined;
  if (version === '00' && more !== undefined) return undefined;
  if (zeros.test(traceId) || zeros.test(spanId)) return undefined;
  return { ids: { traceId, spanId }, sampled: (Number.parseInt(flags, 16) & 1) === 1 };
}

export function formatTraceparent(
  context: Pick<TraceContext, 'traceId' | 'spanId' | 'sampled'>,
): string {
  return `00-${context.traceId}-${context.spanId}-${context.sampled ? '01' : '00'}`;
}

const maxStateMembers = 32;
const stateKey =
  /^(?:[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})$/;
const stateValue = /^[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]$/;

/** W3C's `tracestate` as it goes on, without empty members; nothing where any member is malformed. */
export function parseTracestate(text: string): string | undefined {
  const members = text
    .split(',')
    .map((member) => member.replace(/^[ \t]+|[ \t]+$/g, ''))
    .filter((member) => member !== '');
  if (members.length === 0 || members.length > maxStateMembers) return undefined;
  const keys = new Set<string>();
  for (const member of members) {
    const equals = member.indexOf('=');
    const key = member.slice(0, Math.max(equals, 0));
    if (!stateKey.test(key) || !stateValue.test(member.slice(equals + 1))) return undefined;
    keys.add(key);
  }
  return keys.size === members.length ? members.join(',') : undefined;
}

const b3Ids = /^([0-9a-f]{32}|[0-9a-f]{16})-([0-9a-f]{16})(?:-([01d])(?:-([0-9a-f]{16}))?)?$/;

/** B3 in one header: ids and perhaps a decision, or a decision alone. */
export function parseB3(text: string): CallerContext | undefined {
  if (text === '0' || text === '1' || text === 'd') return decision(text);
  const [, traceId, spanId = '', state] = b3Ids.exec(text) ?? [];
  if (traceId === undefined || zeros.test(traceId) || zeros.test(spanId)) return undefined;
  return { ids: { traceId: traceId.padStart(32, '0'), spanId }, ...decision(state) };
}

const longId = /^(?:[0-9a-f]{32}|[0-9a-f]{16})$/;
const shortId = /^[0-9a-f]{16}$/;

/** B3 in a header for each part; ids count only together. */
export function parseB3Headers(header: ReadHeader): CallerContext | undefined {
  const traceId = header('x-b3-traceid');
  const spanId = header('x-b3-spanid');
  const told = decision(header('x-b3-flags') === '1' ? 'd' : header('x-b3-sampled'));
  if (traceId === undefined && spanId === undefined) {
    return told.sampled === undefined ? undefined : told;
  }
  if (!longId.test(traceId ?? '') || zeros.test(traceId ?? '')) return undefined;
  if (!shortId.test(spanId ?? '') || zeros.test(spanId ?? '')) return undefined;
  return { ids: { traceId: (traceId ?? '').padStart(32, '0'), spanId: spanId ?? '' }, ...told };
}

/** Old tracers write the decision as a word. */
function decision(state: string | undefined): Pick<CallerContext, 'sampled' | 'debug'> {
  switch (state) {
    case '1':
    case 'true':
      return { sampled: true };
    case '0':
    case 'false':
      return { sampled: false };
    case 'd':
      return { sampled: true, debug: true };
    default:
      return {};
  }
}

export function formatB3(context: TraceContext): string {
  const state = context.debug === true ? 'd' : context.sampled ? '1' : '0';
  const parent = context.parentSpanId === undefined ? '' : `-${context.parentSpanId}`;
  return `${b3TraceId(context)}-${context.spanId}-${state}${parent}`;
}

export function formatB3Headers(context: TraceContext): (readonly [string, string])[] {
  const headers: (readonly [string, string])[] = [
    ['x-b3-traceid', b3TraceId(context)],
    ['x-b3-spanid', context.spanId],
  ];
  if (context.parentSpanId !== undefined) headers.push(['x-b3-parentspanid', context.parentSpanId]);
  // The flag says that it is sampled, and B3 asks not to say so twice.
  headers.push(
    context.debug === true ? ['x-b3-flags', '1'] : ['x-b3-sampled', context.sampled ? '1' : '0'],
  );
  return headers;
}

/** A short id goes on short: some of those that speak B3 know no other, and to the rest the two are one. */
function b3TraceId({ traceId }: TraceContext): string {
  return traceId.startsWith('0000000000000000') ? traceId.slice(16) : traceId;
}

/** Malformed ones too: what goes on must replace them. */
function b3Form(header: ReadHeader): B3Form | undefined {
  const single = header('b3') !== undefined;
  const multi = traceHeaderNames.some(
    (name) => name.startsWith('x-b3-') && header(name) !== undefined,
  );
  if (single) return multi ? 'both' : 'single';
  return multi ? 'multi' : undefined;
}

function newId(digits: number, randomDigits: TraceOptions['randomDigits']): string {
  return notZero(randomDigits(digits));
}

/** All zeros means none. */
function notZero(id: string): string {
  return id.startsWith('00000000') && zeros.test(id) ? `${id.slice(0, -1)}1` : id;
}
