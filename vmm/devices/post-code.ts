/**
 * Port 0x80: firmware and bare-metal payloads tell by it how far they got; others write to it to lose a microsecond.
 * So it must cost little: a latch, of whose writes nobody is told.
 */
import type { Device, DeviceBus } from './device.ts';

export const POST_CODE_PORT = 0x80;

export class PostCode implements Device {
  #code: Uint8Array = new Uint8Array(1);

  /** What was written last; 0 when nothing was. */
  get last(): number {
    return this.#code[0]!;
  }

  attach(bus: DeviceBus): void {
    this.#code = bus.ports.allocateShared(1);
    bus.ports.add(POST_CODE_PORT, 1, { kind: 'latch', name: 'post-code', bytes: this.#code });
  }
}
