/** A driver that behaves: after anything else that a guest did, a reboot must give it devices that work. */
import type { FakeDevice } from '../../native/fake/fake-device.ts';
import type { AssignedFunction } from '../index.ts';
import { CAPABILITY } from './hardware.ts';
import type { World } from './world.ts';

const BAR_BYTES = { start: 0x10, end: 0x28 } as const;

export class GuestDriver {
  readonly #world: World;
  /** Config spaces as the guest finds them after power-on. */
  readonly #powerOnImages: readonly Uint8Array[];

  constructor(world: World) {
    this.#world = world;
    this.#powerOnImages = world.functions.map((fn) => fn.window.image.slice());
  }

  /** @throws Error for what does not work */
  check(): void {
    this.#world.reboot();
    this.#world.placeBars();
    for (const [i, fn] of this.#world.functions.entries()) {
      this.#checkImage(fn, this.#powerOnImages[i]!);
      this.#checkBars(fn);
      this.#checkInterrupts(fn, this.#world.devices[i]!);
    }
  }

  /** A reset restores everything, but for the addresses that firmware gave. */
  #checkImage(fn: AssignedFunction, expected: Uint8Array): void {
    for (const [at, byte] of fn.window.image.entries()) {
      if (at >= BAR_BYTES.start && at < BAR_BYTES.end) continue;
      const isDevice = fn.window.deviceBits[at] !== 0;
      if (byte !== expected[at] && !isDevice) throw new Error(`${fn.label}: byte ${at} of config space after a reboot`);
    }
  }

  #checkBars(fn: AssignedFunction): void {
    fn.writeConfig(0x04, 2, 7);
    for (const { index, kind } of fn.bars) {
      const address = this.#world.barAddress(fn, index);
      if (kind === 'port') {
        this.#world.machine.vm.write(address, 4, 0x1234_5678, 'port');
        this.#expect(fn, index, this.#world.machine.vm.read(address, 4, 'port'));
        continue;
      }
      const at = index === fn.bars.find(({ prefetchable }) => prefetchable)?.index ? 0x2_0000 : 0x10;
      // The third function's table is at the beginning of its BAR; its first BAR says enough.
      if (fn === this.#world.functions[2] && index !== 0) continue;
      this.#world.store(address + at, 4, 0x1234_5678);
      this.#expect(fn, index, this.#world.load(address + at, 4));
    }
  }

  #expect(fn: AssignedFunction, bar: number, value: number): void {
    if (value !== 0x1234_5678) throw new Error(`${fn.label}: BAR${bar} reads ${value.toString(16)} after a reboot`);
  }

  #checkInterrupts(fn: AssignedFunction, device: FakeDevice): void {
    const { tableBar, tableOffset } = device.spec.msix!;
    const { vm } = this.#world.machine.vm;
    fn.writeConfig(CAPABILITY.msix + 2, 2, 0x8000);
    const entry = this.#world.barAddress(fn, tableBar) + tableOffset + 16;
    for (const [at, value] of [
      [0, 0xfee0_0000],
      [4, 0],
      [8, 0x41],
      [12, 0],
    ] as const) {
      this.#world.store(entry + at, 4, value);
    }
    vm.injections.length = 0;
    device.fireMsix(1);
    const [injection, ...more] = vm.injections;
    if (injection?.route?.kind !== 'msi' || injection.route.data !== 0x41 || more.length > 0) {
      throw new Error(`${fn.label}: MSI-X does not arrive after a reboot`);
    }
    fn.writeConfig(CAPABILITY.msix + 2, 2, 0);
  }
}
