/**
 * What is left of the keyboard controller: the line by which a PC resets itself. No keyboard, no mouse.
 *
 * The status register says "output full, input empty", always. Linux's driver then finds that the buffer never runs
 * empty and reports `i8042: No controller found` after 17 reads, where an empty buffer would cost it half a second
 * of waiting for an answer; and its reboot code, which waits for an empty input buffer, goes on at once.
 */
import type { Device, DeviceBus } from './device.ts';

export const KEYBOARD_DATA_PORT = 0x60;
export const KEYBOARD_COMMAND_PORT = 0x64;

const STATUS_OUTPUT_FULL = 0x01;
const NO_DATA = 0xff;

/** Commands 0xf0 to 0xff pulse the output lines whose bits are 0; line 0 is the CPU's reset. */
function pulsesReset(command: number): boolean {
  return (command & 0xf1) === 0xf0;
}

export class I8042 implements Device {
  readonly #onReset: () => void;

  /** @param options.onReset the guest asked for a reset (command 0xfe) */
  constructor(options: { readonly onReset: () => void }) {
    this.#onReset = options.onReset;
  }

  attach(bus: DeviceBus): void {
    this.#claim(bus, KEYBOARD_DATA_PORT, NO_DATA, () => {});
    this.#claim(bus, KEYBOARD_COMMAND_PORT, STATUS_OUTPUT_FULL, (value) => {
      if (pulsesReset(value & 0xff)) this.#onReset();
    });
  }

  #claim(bus: DeviceBus, port: number, constant: number, write: (value: number) => void): void {
    const bytes = bus.ports.allocateShared(1);
    bytes[0] = constant;
    const handler = { read: () => constant, write: (_offset: number, _width: number, value: number) => write(value) };
    bus.ports.add(port, 1, { kind: 'shared', name: 'i8042', bytes, handler });
  }
}
