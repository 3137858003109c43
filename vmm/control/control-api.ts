/**
 * `causeway/control`: the control API for other processes. An entry of its own, so that who only runs VMs does not load HTTP/2.
 * @module
 */
export { decodeVmConfig, encodeVmConfig } from './config-message.ts';
export {
  type ConsolePiece,
  type ControlClient,
  connectControl,
  type EventOptions,
  type VmInfo,
} from './connect-control.ts';
export type { ConfigPermitRequest, ControlOptions, PermittedBits } from './control-service.ts';
export type { ControlEvent } from './messages.ts';
export type { CallOptions } from './rpc/service.ts';
export { type ControlServer, serveControl } from './serve-control.ts';
export { controlNames, controlPath } from './socket.ts';
