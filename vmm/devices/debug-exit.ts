/** A port by which a bare-metal guest ends its run and says how it went. */
import type { Device, DeviceBus } from './device.ts';

export const DEBUG_EXIT_PORT = 0xf4;
const DEBUG_EXIT_PORTS = 4;

export class DebugExit implements Device {
  readonly #onExit: (value: number) => void;

  /** @param options.onExit the guest wrote this value, unsigned, of 1, 2 or 4 bytes */
  constructor(options: { readonly onExit: (value: number) => void }) {
    this.#onExit = options.onExit;
  }

  attach(bus: DeviceBus): void {
    bus.ports.add(DEBUG_EXIT_PORT, DEBUG_EXIT_PORTS, {
      kind: 'call',
      name: 'debug-exit',
      handler: {
        read: () => 0,
        write: (offset, _width, value) => {
          if (offset === 0) this.#onExit(value >>> 0);
        },
      },
    });
  }
}
