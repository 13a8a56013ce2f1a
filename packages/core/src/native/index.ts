export { listConnections, trackConnections, untrackConnections } from './conntrack.ts';
export type {
  Connection,
  ConnectionStage,
  OpenConnection,
  TrackedConnection,
} from './conntrack.ts';
export { inNetns, makeNetns, netnsInode, openNetns, warmThreadpool } from './netns.ts';
export type { Netns } from './netns.ts';
export { tryLockFile } from './lock.ts';
export type { FileLock } from './lock.ts';
export {
  adoptServer,
  connectFd,
  connectSocket,
  cork,
  fdOf,
  leaveNewConnections,
  listenSocket,
  originalDestination,
  resetOnClose,
} from './sockets.ts';
export type { ConnectSocketOptions, ListenSocketOptions } from './sockets.ts';
export { capturePackets } from './packets.ts';
export type { PacketCapture } from './packets.ts';
export { spawnInNetns } from './spawn.ts';
