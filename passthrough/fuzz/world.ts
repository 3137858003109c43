/** A host with three devices on the scripted kernel, and a guest that has them all. */
import type { FakeDevice } from '../../native/fake/fake-device.ts';
import { FakeDeviceFile } from '../../native/fake/fake-device-file.ts';
import type { Fd, Gsi, Hva, Width } from '../../native/types.ts';
import { readLe } from '../../vmm/base/bits.ts';
import { isKernelError } from '../../vmm/base/errors.ts';
import { MEMORY_WINDOWS, PORT_WINDOW, RAM_BYTES, TestMachine } from '../fixtures/test-machine.ts';
import type { AssignedFunction } from '../index.ts';
import { FUNCTIONS } from './hardware.ts';

const FIRST_PIN = 16;

/** One slot that is not RAM, with the part of a BAR behind it. */
export interface DirectPiece {
  readonly gpa: number;
  readonly sizeBytes: number;
  readonly device: FakeDevice;
  readonly bar: number;
  readonly offset: number;
}

/** Where a BAR is mapped into the VMM. */
interface BarMap {
  readonly hva: number;
  readonly sizeBytes: number;
  readonly device: FakeDevice;
  readonly bar: number;
  readonly offset: number;
}

const REGION_STRIDE = 2 ** 40;

export class World {
  readonly machine: TestMachine = new TestMachine(FUNCTIONS);
  /** Moments in which the guest could have reached memory that the kernel had revoked; the code under test may not see them. */
  readonly violations: string[] = [];
  readonly #maps: readonly BarMap[];

  constructor() {
    const { kernel, devices } = this.machine;
    this.#maps = kernel.liveMappings().flatMap(({ hva, sizeBytes, label, offset }) => {
      const device = devices.find(({ bdf }) => label === `vfio-device ${bdf}`);
      const bar = Math.floor(offset / REGION_STRIDE);
      return device ? [{ hva, sizeBytes, device, bar, offset: offset % REGION_STRIDE }] : [];
    });
    this.#watchOrder();
    this.powerOn();
    this.placeBars();
  }

  /** Decode ends in the hardware when no slot is left, and begins before the first comes. */
  #watchOrder(): void {
    const { kernel } = this.machine;
    const watch = <Args extends unknown[], Result>(call: (...args: Args) => Result, what: string) => {
      return (...args: Args): Result => {
        const result = call(...args);
        for (const { device } of this.directPieces()) {
          if (!device.config.decodesMemory)
            this.violations.push(`${what}: a slot of ${device.bdf}, which decodes nothing`);
        }
        return result;
      };
    };
    kernel.pwrite = watch(kernel.pwrite.bind(kernel), 'a write to the device');
    kernel.vmSetMemorySlot = watch(kernel.vmSetMemorySlot.bind(kernel), 'a change of slots');
    kernel.vfioDeviceReset = (fd) => {
      const { device } = this.#deviceOf(fd);
      if (this.directPieces().some((piece) => piece.device === device))
        this.violations.push(`${device.bdf} reset while mapped`);
      if (device.config.isBusMaster) this.violations.push(`${device.bdf} reset while it is bus master`);
      device.reset();
    };
  }

  #deviceOf(fd: Fd): FakeDeviceFile {
    return this.machine.kernel.fds.get(fd, FakeDeviceFile, 'fuzz');
  }

  get functions(): readonly AssignedFunction[] {
    return this.machine.session.functions;
  }

  get devices(): readonly FakeDevice[] {
    return this.machine.devices;
  }

  powerOn(): void {
    const { services } = this.machine.vm;
    for (const [i, fn] of this.functions.entries()) {
      fn.powerOn({
        ...services,
        address: { bus: 0, device: i + 1, function: 0 },
        intxGsi: (FIRST_PIN + i) as Gsi,
      });
    }
  }

  powerOff(): void {
    for (const fn of [...this.functions].reverse()) fn.powerOff();
    for (const { config, bdf } of this.devices) {
      if (config.isBusMaster) this.violations.push(`${bdf} is bus master after power-off`);
    }
  }

  /** The guest's reboot: a new VM over the same devices. */
  reboot(): void {
    this.powerOff();
    this.machine.newVm();
    this.powerOn();
  }

  /** As firmware does. */
  placeBars(): void {
    let memory = MEMORY_WINDOWS[0]!.start;
    let port = PORT_WINDOW.start;
    for (const fn of this.functions) {
      for (const { index, kind, sizeBytes } of fn.bars) {
        if (kind === 'port') {
          fn.placeBar(index, port);
          port += 0x100;
          continue;
        }
        memory = Math.ceil(memory / sizeBytes) * sizeBytes;
        fn.placeBar(index, memory);
        memory += sizeBytes;
      }
    }
  }

  /** A guest's config read, put together as a vCPU thread does. */
  readConfig(fn: AssignedFunction, offset: number, width: number): number {
    const { image, deviceBits, fd, fdOffset } = fn.window;
    const bytes = new Uint8Array(4);
    for (let i = 0; i < width; i++) {
      const mask = deviceBits[offset + i]!;
      bytes[i] = image[offset + i]! & ~mask;
      if (mask === 0) continue;
      const own = new Uint8Array(1);
      this.machine.kernel.pread(fd, fdOffset + offset + i, own, 0, 1);
      bytes[i]! |= own[0]! & mask;
    }
    return readLe(bytes, 0, width);
  }

  /** Address of a BAR as the guest's registers have it. */
  barAddress(fn: AssignedFunction, bar: number): number {
    const { image } = fn.window;
    const low = readLe(image, 0x10 + 4 * bar, 4);
    if ((low & 1) !== 0) return (low & ~3) >>> 0;
    const high = (low & 6) === 4 ? readLe(image, 0x14 + 4 * bar, 4) : 0;
    return high * 2 ** 32 + ((low & ~0xf) >>> 0);
  }

  directPieces(): DirectPiece[] {
    const pieces: DirectPiece[] = [];
    for (const { gpa, sizeBytes, hva } of this.machine.vm.vm.slots.values()) {
      if (gpa < RAM_BYTES) continue;
      const map = this.#maps.find((each) => hva >= each.hva && hva + sizeBytes <= each.hva + each.sizeBytes);
      if (!map) throw new Error(`the slot at 0x${gpa.toString(16)} is no BAR`);
      pieces.push({ gpa, sizeBytes, device: map.device, bar: map.bar, offset: map.offset + (hva - map.hva) });
    }
    return pieces;
  }

  /**
   * A load of the guest. An access to a slot that the kernel revoked is EFAULT of KVM_RUN, which the machine hands to
   * the functions; then the guest goes on.
   */
  load(gpa: number, width: 1 | 2 | 4): number {
    const slot = this.#slotAt(gpa, width);
    if (!slot) return this.machine.vm.read(gpa, width);
    return this.#direct(
      () => Number(this.machine.kernel.mmioRead(slot.hva, gpa - slot.gpa, width as Width)),
      gpa,
      width,
    );
  }

  store(gpa: number, width: 1 | 2 | 4, value: number): void {
    const slot = this.#slotAt(gpa, width);
    const bits = BigInt(value) & (2n ** BigInt(8 * width) - 1n);
    if (slot) this.#direct(() => this.machine.kernel.mmioWrite(slot.hva, gpa - slot.gpa, width, bits), gpa, width);
    else this.machine.vm.write(gpa, width, value);
  }

  #slotAt(gpa: number, width: number): { readonly gpa: number; readonly hva: Hva } | undefined {
    for (const slot of this.machine.vm.vm.slots.values()) {
      if (slot.gpa >= RAM_BYTES && gpa >= slot.gpa && gpa + width <= slot.gpa + slot.sizeBytes) {
        return { gpa: slot.gpa, hva: slot.hva as Hva };
      }
    }
    return undefined;
  }

  #direct<T>(access: () => T, gpa: number, width: 1 | 2 | 4): T | number {
    try {
      return access();
    } catch (error) {
      if (!isKernelError(error) || error.code !== 'EIO') throw error;
      const dropped = this.functions.filter((fn) => fn.trapAfterRevocation()).length;
      if (dropped === 0) throw new Error(`EFAULT at 0x${gpa.toString(16)}, and nobody knows of a revocation`);
      return this.load(gpa, width);
    }
  }
}
