import {
  MSG_DONTWAIT,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_RAW,
  SOL_SOCKET,
  bind,
  checked,
  close,
  ifNameToIndex,
  recv,
  setsockopt,
  socket,
} from './libc.ts';
import { inNetns } from './netns.ts';

const AF_PACKET = 17;
const ETH_P_ALL = 0x0003;
const SO_RCVBUFFORCE = 33;
const frameBytes = 65_536;
const receiveBufferBytes = 16 * 1024 * 1024;
const pollMs = 2;

export interface PacketCapture {
  /** Reads what has arrived so far and closes the socket. */
  stop(): void;
}

/** Hands every Ethernet frame that crosses an interface to `onFrame`, both directions. Needs NET_RAW. */
export function capturePackets(
  netnsFd: number | undefined,
  interfaceName: string,
  onFrame: (frame: Buffer) => void,
): PacketCapture {
  const open = (): number => openCapture(interfaceName);
  const fd = netnsFd === undefined ? open() : inNetns(netnsFd, open);
  const buffer = Buffer.alloc(frameBytes);
  const read = (): void => {
    for (;;) {
      const length = recv(fd, buffer, frameBytes, MSG_DONTWAIT);
      if (length <= 0) return;
      onFrame(Buffer.from(buffer.subarray(0, length)));
    }
  };
  const timer = setInterval(read, pollMs);
  let stopped = false;
  return {
    stop() {
      if (stopped) return;
      stopped = true;
      clearInterval(timer);
      read();
      close(fd);
    },
  };
}

function openCapture(interfaceName: string): number {
  const index = ifNameToIndex(interfaceName);
  if (index === 0)
    throw Object.assign(new Error(`no interface ${interfaceName}`), { code: 'ENODEV' });
  const protocol = ((ETH_P_ALL & 0xff) << 8) | (ETH_P_ALL >> 8);
  const fd = checked(
    'socket',
    socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol),
  );
  try {
    const size = Buffer.alloc(4);
    size.writeInt32LE(receiveBufferBytes);
    // Refused outside the initial user namespace; the default buffer then has to do.
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, size, 4);
    const address = Buffer.alloc(20);
    address.writeUInt16LE(AF_PACKET, 0);
    address.writeUInt16LE(protocol, 2);
    address.writeInt32LE(index, 4);
    checked('bind', bind(fd, address, address.length));
    return fd;
  } catch (error) {
    close(fd);
    throw error;
  }
}
