import type { Answer, Packet, Question } from 'dns-packet';
import type { DnsView, NameRecords } from './records.ts';

const ttlSeconds = 5;
const negativeTtlSeconds = 5;
const maxChain = 8;
const nxdomain = 3;
const notImplemented = 4;
const refused = 5;
const authoritative = 0x0400;
const recursionAvailable = 0x0080;

/** Answers one query; every name outside the cluster does not exist. */
export function answerQuery(view: DnsView, query: Packet, domain: string): Packet {
  const base = { id: query.id ?? 0, type: 'response' as const, questions: query.questions ?? [] };
  const flags = ((query.flags ?? 0) & 0x0100) | recursionAvailable;
  const [question, ...more] = base.questions;
  if (question === undefined || more.length > 0)
    return { ...base, flags: flags | notImplemented, answers: [] };
  if (question.class !== undefined && question.class !== 'IN' && question.class !== 'ANY') {
    return { ...base, flags: flags | refused, answers: [] };
  }
  const { answers, found } = resolve(view, question);
  const code = found ? 0 : nxdomain;
  const authorities = answers.length === 0 ? [startOfAuthority(domain)] : [];
  const owned = view.owns(question.name) ? authoritative : 0;
  return {
    ...base,
    flags: flags | owned | code,
    answers,
    authorities,
    additionals: additionals(view, answers),
  };
}

function resolve(view: DnsView, question: Question): { answers: Answer[]; found: boolean } {
  const answers: Answer[] = [];
  let { name } = question;
  for (let step = 0; step < maxChain; step += 1) {
    const records = view.lookup(name);
    if (records === undefined) return { answers, found: answers.length > 0 };
    if (records.cname === undefined || question.type === 'CNAME') {
      return { answers: [...answers, ...answersFor(name, question.type, records)], found: true };
    }
    answers.push({ type: 'CNAME', name, ttl: ttlSeconds, data: records.cname });
    name = records.cname;
  }
  return { answers, found: true };
}

function answersFor(name: string, type: Question['type'], records: NameRecords): Answer[] {
  const ttl = ttlSeconds;
  switch (type) {
    case 'A':
      return shuffled(records.a).map((data) => ({ type, name, ttl, data }));
    case 'AAAA':
      return shuffled(records.aaaa).map((data) => ({ type, name, ttl, data }));
    case 'SRV':
      return records.srv.map(({ target, port }) => ({
        type,
        name,
        ttl,
        data: { target, port, priority: 0, weight: 100 },
      }));
    case 'PTR':
      return records.ptr.map((data) => ({ type, name, ttl, data }));
    case 'CNAME':
      return records.cname === undefined ? [] : [{ type, name, ttl, data: records.cname }];
    default:
      return [];
  }
}

/** Addresses of SRV targets, which clients ask for next. */
function additionals(view: DnsView, answers: readonly Answer[]): Answer[] {
  const targets = new Set(
    answers.flatMap((answer) => (answer.type === 'SRV' ? [answer.data.target] : [])),
  );
  return Array.from(targets).flatMap((target) => {
    const records = view.lookup(target);
    return records === undefined
      ? []
      : [...answersFor(target, 'A', records), ...answersFor(target, 'AAAA', records)];
  });
}

function shuffled(values: readonly string[]): readonly string[] {
  if (values.length < 2) return values;
  const start = Math.floor(Math.random() * values.length);
  return [...values.slice(start), ...values.slice(0, start)];
}

function startOfAuthority(domain: string): Answer {
  return {
    type: 'SOA',
    name: domain,
    ttl: negativeTtlSeconds,
    data: {
      mname: `ns.dns.${domain}`,
      rname: `hostmaster.${domain}`,
      serial: 1,
      refresh: 7200,
      retry: 1800,
      expire: 86_400,
      minimum: negativeTtlSeconds,
    },
  };
}
