/** Opens a VM's control socket. */
import { VmService } from '../../proto/index.ts';
import { type ControlOptions, ControlService } from './control-service.ts';
import { RpcServer } from './rpc/server.ts';
import { controlPath, listenAt } from './socket.ts';
import type { Vm } from './vm.ts';

/** A control socket that is open. */
export interface ControlServer extends AsyncDisposable {
  readonly path: string;
  /** Ends the streams after what they still have, then removes the socket. A second call is ignored. */
  close(): Promise<void>;
}

/**
 * Serves the control API of proto/causeway/v1/control.proto (gRPC) on a Unix socket that only this user may open. Best
 * called before the VM starts, so that no event and no output is missed; {@link ControlServer.close} belongs to the
 * caller, after the VM's own close, so that clients see how it ends.
 * @param nameOrPath a name stands for NAME.sock in the user's folder for sockets; what has a slash is a path
 * @throws CausewayError CONTROL_UNAVAILABLE
 */
export async function serveControl(vm: Vm, nameOrPath: string, options: ControlOptions = {}): Promise<ControlServer> {
  const path = controlPath(nameOrPath);
  const server = new RpcServer();
  const service = new ControlService(vm, options);
  server.serve(VmService, service);
  const remove = await listenAt(server.http, path);
  // Not before, so that a failure leaves the VM's events to others.
  service.start();
  let closing: Promise<void> | undefined;
  const close = async (): Promise<void> => {
    // What happened in this very turn shall still be told.
    await new Promise((resolve) => setImmediate(resolve));
    service.close();
    await server.close();
    await remove();
  };
  return {
    path,
    close: () => (closing ??= close()),
    [Symbol.asyncDispose]: () => (closing ??= close()),
  };
}
