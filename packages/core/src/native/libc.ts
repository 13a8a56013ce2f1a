import koffi from 'koffi';

/** The few calls of libc that Node does not offer. Each is synchronous and returns -1 with `errno` on failure. */
const libc = koffi.load(null);

export const SOCK_STREAM = 1;
export const SOCK_RAW = 3;
export const SOCK_NONBLOCK = 0o4000;
export const SOCK_CLOEXEC = 0o2000000;
export const SOL_SOCKET = 1;
export const MSG_DONTWAIT = 0x40;

export const setns = libc.func('int setns(int fd, int nstype)') as (
  fd: number,
  type: number,
) => number;
export const unshare = libc.func('int unshare(int flags)') as (flags: number) => number;
export const socket = libc.func('int socket(int domain, int type, int protocol)') as (
  domain: number,
  type: number,
  protocol: number,
) => number;
export const bind = libc.func('int bind(int fd, const uint8_t *address, uint32_t length)') as (
  fd: number,
  address: Uint8Array,
  length: number,
) => number;
export const listen = libc.func('int listen(int fd, int backlog)') as (
  fd: number,
  backlog: number,
) => number;
export const close = libc.func('int close(int fd)') as (fd: number) => number;
export const flock = libc.func('int flock(int fd, int operation)') as (
  fd: number,
  operation: number,
) => number;
export const setsockopt = libc.func(
  'int setsockopt(int fd, int level, int name, const uint8_t *value, uint32_t length)',
) as (fd: number, level: number, name: number, value: Uint8Array, length: number) => number;
// Without a name: names of types are the process's, and tests load this file more than once.
const socketProgram = koffi.struct({ length: 'uint16_t', instructions: 'const uint8_t *' });
/** `setsockopt` with a classic BPF program as the value. */
export const setSocketProgram = libc.func('setsockopt', 'int', [
  'int',
  'int',
  'int',
  koffi.pointer(socketProgram),
  'uint32_t',
]) as (
  fd: number,
  level: number,
  name: number,
  value: { readonly length: number; readonly instructions: Uint8Array },
  length: number,
) => number;
export const getsockopt = libc.func(
  'int getsockopt(int fd, int level, int name, _Out_ uint8_t *value, _Inout_ uint32_t *length)',
) as (fd: number, level: number, name: number, value: Uint8Array, length: [number]) => number;
export const recv = libc.func(
  'int64_t recv(int fd, _Out_ uint8_t *buffer, uint64_t length, int flags)',
) as (fd: number, buffer: Uint8Array, length: number, flags: number) => number;
export const send = libc.func(
  'int64_t send(int fd, const uint8_t *buffer, uint64_t length, int flags)',
) as (fd: number, buffer: Uint8Array, length: number, flags: number) => number;
export const ifNameToIndex = libc.func('uint32_t if_nametoindex(const char *name)') as (
  name: string,
) => number;

const names = new Map(
  Object.entries(koffi.os.errno as Readonly<Record<string, number>>).map(([name, number]) => [
    number,
    name,
  ]),
);

/** `ENOENT` of 2. */
export function errnoName(errno: number): string {
  return names.get(errno) ?? `errno ${errno}`;
}

/** An error with the code that Node would give it, made from `errno` right after a failed call. */
export function lastError(call: string): NodeJS.ErrnoException {
  const errno = koffi.errno();
  const code = errnoName(errno);
  return Object.assign(new Error(`${call}: ${code}`), { errno: -errno, code, syscall: call });
}

/** Returns the result of a call, or throws what `errno` says. */
export function checked(call: string, result: number): number {
  if (result < 0) throw lastError(call);
  return result;
}
