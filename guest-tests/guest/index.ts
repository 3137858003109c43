/**
 * Guests for tests: a Linux that takes commands, and bare-metal payloads.
 * @module
 */
export type { ImageFile } from '../../lab/index.ts';
export { buildPayloads } from '../bare/build.ts';
export type { Distribution, Metric, TestResult } from '../bare/ktap.ts';
export type { CommandResult } from './agent-link.ts';
export { bootLinux, type LinuxOptions, prepareLinux } from './boot-linux.ts';
export { brokenModule, type ModuleFault } from './broken-module.ts';
export type { Trouble } from './crash-watch.ts';
export { debianProgram } from './debian-program.ts';
export { type GuestImage, guestImage } from './image.ts';
export type { LinuxGuest } from './linux-guest.ts';
export { type PayloadOptions, type PayloadResult, runPayload } from './payload.ts';
export { prepareGuests } from './prepare.ts';
export { LAB_PEER_ADDRESS, PEER_VARIABLE, peerBytes, TcpPeer } from './tcp-peer.ts';
