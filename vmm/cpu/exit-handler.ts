/**
 * Answers one exit of KVM_RUN on the vCPU thread. Hot: nothing here allocates. What it cannot answer from shared memory
 * or with one pread or pwrite becomes a call to the machine thread.
 */
import { KVM_EXIT, KVM_EXIT_IO_IN, KVM_RUN } from '../../native/kvm-abi.ts';
import type { Fd, FileDescriptors } from '../../native/types.ts';
import { PAGE_SIZE } from '../base/bits.ts';
import { type BusMemory, LATCH_WORD, TRAP_KIND } from '../bus/bus-memory.ts';
import { BURST_ACCESSES } from '../bus/trap.ts';
import { TrapLookup } from '../bus/trap-lookup.ts';
import { CONFIG_SPACE_SIZE, type ConfigStore } from '../pci/config-window.ts';
import { storeWhileMasked } from '../pci/msix.ts';
import { CALL, COUNTER, type Mailbox, NOTICE, SPACE } from './mailbox.ts';

const ENABLE_BIT = 0x8000_0000;
/** VPD address bit 15: 0 starts a read (PCI 3.0 appendix I). */
const VPD_WRITE = 0x8000;
/** COM1 is 0x3f8 to 0x3ff, COM2 0x2f8 to 0x2ff: they differ in one bit. */
const SERIAL_MASK = 0xfef8;
const SERIAL_PORT = 0x2f8;

export class ExitHandler {
  readonly #native: Pick<FileDescriptors, 'pread' | 'pwrite'>;
  readonly #bus: BusMemory;
  readonly #config: ConfigStore;
  readonly #mailbox: Mailbox;
  readonly #runBytes: Uint8Array;
  readonly #run: DataView;
  readonly #ports: TrapLookup;
  readonly #mmio: TrapLookup;
  readonly #scratch = new Uint8Array(8);
  readonly #ring: () => void;
  #function = 0;
  #offset = 0;

  constructor(
    native: Pick<FileDescriptors, 'pread' | 'pwrite'>,
    run: ArrayBuffer,
    bus: BusMemory,
    config: ConfigStore,
    mailbox: Mailbox,
  ) {
    this.#native = native;
    this.#bus = bus;
    this.#config = config;
    this.#mailbox = mailbox;
    this.#runBytes = new Uint8Array(run);
    this.#run = new DataView(run);
    this.#ports = new TrapLookup(bus.ports);
    this.#mmio = new TrapLookup(bus.mmio);
    this.#ring = bus.bell.ring;
  }

  /** Handles what KVM_RUN left in the run page. */
  handle(): void {
    switch (this.#run.getUint32(KVM_RUN.exitReason, true)) {
      case KVM_EXIT.IO:
        this.#portExit();
        break;
      case KVM_EXIT.MMIO:
        this.#mmioExit();
        break;
      case KVM_EXIT.SHUTDOWN:
        this.notice(NOTICE.tripleFault, 0);
        break;
      case KVM_EXIT.INTERNAL_ERROR:
        this.notice(NOTICE.emulationFailure, this.#run.getUint32(KVM_RUN.internal.suberror, true));
        break;
      case KVM_EXIT.FAIL_ENTRY:
        this.notice(NOTICE.entryFailure, this.#run.getUint32(KVM_RUN.failEntry.hardwareEntryFailureReason, true));
        break;
      default:
        this.#mailbox.counters[COUNTER.other]!++;
        this.notice(NOTICE.unknownExit, this.#run.getUint32(KVM_RUN.exitReason, true));
        break;
    }
  }

  /** Tells the machine thread what happened and waits for its verdict, which is in the control word. */
  notice(kind: number, detail: number): void {
    this.#mailbox.call(CALL.notice, SPACE.memory, kind, 4, detail, this.#ring);
  }

  #portExit(): void {
    const run = this.#run;
    const input = run.getUint8(KVM_RUN.io.direction) === KVM_EXIT_IO_IN;
    const width = run.getUint8(KVM_RUN.io.size);
    const port = run.getUint16(KVM_RUN.io.port, true);
    const count = run.getUint32(KVM_RUN.io.count, true);
    let at = run.getUint32(KVM_RUN.io.dataOffset, true);
    const trap = this.#ports;
    trap.find(port);
    this.#countPort(port, trap.kind);
    for (let i = 0; i < count; i++, at += width) this.#access(trap, SPACE.port, port, width, at, !input);
  }

  #countPort(port: number, kind: number): void {
    const counters = this.#mailbox.counters;
    if (kind === TRAP_KIND.addressPort || kind === TRAP_KIND.dataPort) {
      counters[COUNTER.config]!++;
      return;
    }
    // Each exit counts once: sums over counters that are read one by one, while vCPUs run, then never contradict.
    // Where there is no COM2, probing for it is plain port I/O.
    const isSerial = kind !== 0 && (port & SERIAL_MASK) === SERIAL_PORT;
    counters[isSerial ? COUNTER.console : COUNTER.port]!++;
  }

  #mmioExit(): void {
    const run = this.#run;
    const address =
      run.getUint32(KVM_RUN.mmio.physAddr + 4, true) * 0x1_0000_0000 + run.getUint32(KVM_RUN.mmio.physAddr, true);
    const width = run.getUint32(KVM_RUN.mmio.len, true);
    const trap = this.#mmio;
    trap.find(address);
    this.#mailbox.counters[trap.kind === TRAP_KIND.ecam ? COUNTER.config : COUNTER.mmio]!++;
    this.#access(trap, SPACE.memory, address, width, KVM_RUN.mmio.data, run.getUint8(KVM_RUN.mmio.isWrite) !== 0);
  }

  /** One access of `width` bytes whose data is at `at` of the run page. */
  #access(trap: TrapLookup, space: number, address: number, width: number, at: number, write: boolean): void {
    if (trap.counter >= 0) this.#count(trap, address);
    const fits = trap.kind === TRAP_KIND.addressPort || address + width <= trap.end;
    if (trap.kind === 0 || !fits || (width & (width - 1)) !== 0 || width > 8) {
      if (!write) this.#runBytes.fill(0xff, at, at + width);
    } else if (trap.kind === TRAP_KIND.file) this.#file(trap, address, width, at, write);
    else if (width === 8) {
      this.#narrow(trap, space, address, 4, at, write);
      this.#narrow(trap, space, address + 4, 4, at + 4, write);
    } else this.#narrow(trap, space, address, width, at, write);
  }

  /** Counts of all vCPUs come together in shared memory; the carry makes a counter last for ever. */
  #count(trap: TrapLookup, address: number): void {
    const { counts } = this.#bus;
    const firstPage = trap.start - (trap.start % PAGE_SIZE);
    const counter = trap.counter + Math.floor((address - firstPage) / trap.granule);
    const count = (Atomics.add(counts, 2 * counter, 1) + 1) >>> 0;
    if (count === 0) Atomics.add(counts, 2 * counter + 1, 1);
    if (count % BURST_ACCESSES === 0) this.notice(NOTICE.burst, counter);
  }

  #file(trap: TrapLookup, address: number, width: number, at: number, write: boolean): void {
    const offset = trap.fileOffset + (address - trap.start);
    const error = write
      ? this.#native.pwrite(trap.arg as Fd, offset, this.#runBytes, at, width)
      : this.#native.pread(trap.arg as Fd, offset, this.#runBytes, at, width);
    if (error === 0) return;
    this.#mailbox.counters[COUNTER.fileErrors]!++;
    if (!write) this.#runBytes.fill(0xff, at, at + width);
  }

  /** An access of 1, 2 or 4 bytes. */
  #narrow(trap: TrapLookup, space: number, address: number, width: number, at: number, write: boolean): void {
    if (write) this.#write(trap, space, address, width, this.#load(at, width));
    else this.#store(at, width, this.#read(trap, space, address, width));
  }

  #write(trap: TrapLookup, space: number, address: number, width: number, value: number): void {
    if (trap.kind === TRAP_KIND.addressPort) {
      if (width === 4) Atomics.store(this.#bus.words, LATCH_WORD, value | 0);
      return;
    }
    if (trap.kind === TRAP_KIND.latch) {
      this.#storeShared(trap.arg + (address - trap.start), width, value);
      return;
    }
    if (trap.kind === TRAP_KIND.msixTable) {
      const { shared } = this.#bus;
      if (storeWhileMasked(shared, trap.arg, address - trap.start, width, value)) return;
    }
    if (this.#configAt(trap, address) && this.#startsVpdRead(width, value)) return;
    if (trap.kind === TRAP_KIND.callPost && this.#bus.posts.put(address, width, value)) {
      this.#mailbox.counters[COUNTER.posted]!++;
      this.#ring();
      return;
    }
    this.#call(CALL.write, space, address, width, value);
  }

  #read(trap: TrapLookup, space: number, address: number, width: number): number {
    switch (trap.kind) {
      case TRAP_KIND.shared:
      case TRAP_KIND.latch:
      case TRAP_KIND.msixTable:
        return this.#loadShared(trap.arg + (address - trap.start), width);
      case TRAP_KIND.ecam:
        return this.#readEcam(address - trap.start, width);
      case TRAP_KIND.addressPort:
        return width === 4 ? Atomics.load(this.#bus.words, LATCH_WORD) >>> 0 : width === 2 ? 0xffff : 0xff;
      case TRAP_KIND.dataPort:
        if (this.#configAt(trap, address)) return this.#readConfig(this.#function, this.#offset, width);
        return width === 4 ? 0xffff_ffff : width === 2 ? 0xffff : 0xff;
      default:
        return this.#call(CALL.read, space, address, width, 0);
    }
  }

  #call(op: number, space: number, address: number, width: number, value: number): number {
    this.#mailbox.counters[COUNTER.called]!++;
    return this.#mailbox.call(op, space, address, width, value, this.#ring);
  }

  /** Whether the access goes to config space; where is in `#function` and `#offset`. */
  #configAt(trap: TrapLookup, address: number): boolean {
    if (trap.kind === TRAP_KIND.ecam) {
      const offset = address - trap.start;
      this.#function = Math.floor(offset / CONFIG_SPACE_SIZE);
      this.#offset = offset % CONFIG_SPACE_SIZE;
      return true;
    }
    if (trap.kind !== TRAP_KIND.dataPort) return false;
    const latch = Atomics.load(this.#bus.words, LATCH_WORD) >>> 0;
    this.#function = (latch >>> 8) & 0xffff;
    this.#offset = (latch & 0xfc) + (address - trap.start);
    return latch >= ENABLE_BIT;
  }

  /** A config write that starts a read of vital product data goes to the device from here; see {@link ConfigWindow}. */
  #startsVpdRead(width: number, value: number): boolean {
    const index = this.#bus.windowOf[this.#function]!;
    if (index === 0) return false;
    const window = this.#config.windows[index - 1]!;
    const register = window.vpdAddress;
    const at = register - this.#offset;
    // Written whole, and nothing beyond its dword with it.
    if (register === 0 || at < 0 || at + 2 > width || (this.#offset & 3) + width > 4) return false;
    const word = (value >>> (8 * at)) & 0xffff;
    if ((word & VPD_WRITE) !== 0) return false;
    this.#scratch[0] = word & 0xff;
    this.#scratch[1] = word >>> 8;
    const failed = this.#native.pwrite(window.fd, window.fdOffset + register, this.#scratch, 0, 2) !== 0;
    if (failed) this.#mailbox.counters[COUNTER.fileErrors]!++;
    return true;
  }

  /**
   * By the offset into all of config space. No config cycle carries more than its dword (PCI 3.0 §3.2.2.3), so what crosses
   * one is taken byte by byte, also where the bytes belong to two functions.
   */
  #readEcam(offset: number, width: number): number {
    const at = offset % CONFIG_SPACE_SIZE;
    if ((at & 3) + width <= 4) return this.#readConfig(Math.floor(offset / CONFIG_SPACE_SIZE), at, width);
    let value = 0;
    for (let i = width - 1; i >= 0; i--) value = (value << 8) | this.#readEcam(offset + i, 1);
    return value >>> 0;
  }

  /** Within one dword. (image & ~deviceBits) | (device & deviceBits), see config-window.ts. */
  #readConfig(function_: number, offset: number, width: number): number {
    const absent = width === 4 ? 0xffff_ffff : width === 2 ? 0xffff : 0xff;
    const index = this.#bus.windowOf[function_]!;
    if (index === 0) return absent;
    const window = this.#config.windows[index - 1]!;
    let image = 0;
    let mask = 0;
    for (let i = width - 1; i >= 0; i--) {
      image = (image << 8) | window.image[offset + i]!;
      mask = (mask << 8) | window.deviceBits[offset + i]!;
    }
    if (mask === 0) return image >>> 0;
    const failed = this.#native.pread(window.fd, window.fdOffset + offset, this.#scratch, 0, width) !== 0;
    if (failed) this.#mailbox.counters[COUNTER.fileErrors]!++;
    let device = 0;
    for (let i = width - 1; i >= 0; i--) device = (device << 8) | (failed ? 0xff : this.#scratch[i]!);
    return ((image & ~mask) | (device & mask)) >>> 0;
  }

  #loadShared(at: number, width: number): number {
    const { shared } = this.#bus;
    let value = 0;
    for (let i = width - 1; i >= 0; i--) value = (value << 8) | shared[at + i]!;
    return value >>> 0;
  }

  #storeShared(at: number, width: number, value: number): void {
    const { shared } = this.#bus;
    for (let i = 0; i < width; i++) shared[at + i] = value >>> (8 * i);
  }

  #load(at: number, width: number): number {
    return width === 4
      ? this.#run.getUint32(at, true)
      : width === 2
        ? this.#run.getUint16(at, true)
        : this.#run.getUint8(at);
  }

  #store(at: number, width: number, value: number): void {
    if (width === 4) this.#run.setUint32(at, value, true);
    else if (width === 2) this.#run.setUint16(at, value, true);
    else this.#run.setUint8(at, value);
  }
}
