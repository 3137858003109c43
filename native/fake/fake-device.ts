/** A PCI function as vfio-pci shows it: regions, reset, features, and the hardware behind them for the test to play. */

import { kernelError } from '../kernel-error.ts';
import { VFIO_FEATURE, VFIO_FEATURE_FLAGS, VFIO_PCI_IRQ, VFIO_PCI_REGION } from '../vfio-abi.ts';
import { FakeConfig } from './fake-config.ts';
import { FakeIrqs } from './fake-irqs.ts';
import { littleEndian } from './journal.ts';
import type { OpenFile } from './open-file.ts';
import { type FakeBarSpec, type FakePciSpec, msixOf, pciConfig } from './pci-spec.ts';

const PAGE = 4096;
/** Where vfio-pci puts the region index in the file offset. */
export const REGION_STRIDE: number = 2 ** 40;
const [EIO, EFAULT, EINVAL] = [-5, -14, -22];
const MSI_CAPABILITY = 5;

/** One access to a BAR or to configuration space, as the bus saw it. */
export interface DeviceAccess {
  readonly region: number;
  readonly offset: number;
  readonly width: number;
  readonly write: boolean;
  readonly value: bigint;
  /** Through pread and pwrite, or through a mapping. */
  readonly via: 'fd' | 'mmap';
}

export class FakeDevice {
  readonly bdf: string;
  readonly spec: FakePciSpec;
  readonly config: FakeConfig;
  readonly irqs: FakeIrqs;
  /** Bytes behind BARs 0 to 5 and the ROM, as far as they were touched. */
  readonly memory = new Map<number, Uint8Array>();
  /** Accesses to BARs and ROM; config ones are in `configAccesses`. */
  readonly accesses: DeviceAccess[] = [];
  readonly configAccesses: DeviceAccess[] = [];
  readonly resets: ('function' | 'hot' | 'flr' | 'open')[] = [];
  readonly features: Set<number>;
  /** Name of the bound driver; changed by the sysfs half. */
  driver: string | undefined;
  vfToken: string | undefined;
  /** The PF of a VF. */
  physicalFunction: FakeDevice | undefined;
  readonly virtualFunctions: FakeDevice[] = [];
  openCount = 0;
  /** The host removes it, and waits for its files to be closed: with the last one its group leaves the container. */
  isLeaving = false;
  lowPower = false;
  /** Answers a read of a BAR in place of the stored bytes. */
  onRead: ((bar: number, offset: number, width: number) => bigint | undefined) | undefined;
  /** Sees a write to a BAR before it is stored. */
  onWrite: ((bar: number, offset: number, width: number, value: bigint) => void) | undefined;

  constructor(spec: FakePciSpec, findFile: (fd: number) => OpenFile | undefined) {
    this.spec = spec;
    this.bdf = spec.bdf;
    this.driver = spec.driver;
    this.vfToken = spec.vfio?.vfToken;
    this.features = new Set(spec.vfio?.features ?? [3, 4, 5, 11]);
    const hardware = pciConfig(spec);
    const effects = {
      decodeChanged: () => {},
      intxDisableChanged: () => this.irqs.deliverIntx(),
      functionLevelReset: () => this.wasReset('flr'),
    };
    this.config = new FakeConfig(hardware, spec.bars ?? [], spec.romBytes ?? 0, effects, spec.isVf);
    const msiControl = this.capability(hardware, MSI_CAPABILITY);
    this.irqs = new FakeIrqs({
      counts: [
        hardware[0x3d] === 0 ? 0 : 1,
        msiControl === undefined ? 0 : 1 << ((hardware[msiControl + 2]! >> 1) & 7),
        msixOf(hardware)?.vectors ?? 0,
        1,
        1,
      ],
      dynamicMsix: spec.vfio?.dynamicMsix ?? true,
      availableVectors: spec.vfio?.availableVectors ?? Number.POSITIVE_INFINITY,
      findFile,
      intxDisabled: () => this.config.disablesIntx,
      isAwake: () => this.config.powerState === 0,
    });
  }

  private capability(config: Uint8Array, id: number): number | undefined {
    for (let at = config[0x34]!, hops = 0; at >= 0x40 && hops < 48; at = config[at + 1]!, hops++) {
      if (config[at] === id) return at;
    }
    return undefined;
  }

  get group(): number {
    return this.spec.group ?? -1;
  }

  get isOpen(): boolean {
    return this.openCount > 0;
  }

  get canHotReset(): boolean {
    return this.spec.vfio?.hotReset ?? true;
  }

  // ---- the hardware, played by a test -------------------------------------------------------------------------

  fireMsix(vector: number): boolean {
    return this.irqs.fire(VFIO_PCI_IRQ.MSIX, vector);
  }

  fireMsi(vector = 0): boolean {
    return this.irqs.fire(VFIO_PCI_IRQ.MSI, vector);
  }

  /** Asserts the INTx line; it stays until {@link clearIntx}, and fires again at each unmask till then. */
  fireIntx(): void {
    this.irqs.setIntxLine(true);
  }

  clearIntx(): void {
    this.irqs.setIntxLine(false);
  }

  fireError(): boolean {
    return this.irqs.fireError(VFIO_PCI_IRQ.ERR);
  }

  /** The host wants the device back. */
  fireRequest(): boolean {
    return this.irqs.fireError(VFIO_PCI_IRQ.REQ);
  }

  /**
   * The rules of vfio_pci_validate_vf_token: a VF wants the token of a PF on vfio-pci; a PF takes one while no VF is in
   * use, and wants it once one is; whatever else is given one is refused. Returns the errno, or undefined.
   */
  tokenError(token: string | undefined): 'EACCES' | 'EINVAL' | undefined {
    const { physicalFunction: pf } = this;
    if (pf !== undefined) {
      if (pf.driver !== 'vfio-pci') return token === undefined ? undefined : 'EINVAL';
      return token !== undefined && token === pf.vfToken ? undefined : 'EACCES';
    }
    if (this.spec.sriov !== undefined) {
      if (this.virtualFunctions.some(({ isOpen }) => isOpen)) return token === this.vfToken ? undefined : 'EACCES';
      this.vfToken = token ?? this.vfToken;
      return undefined;
    }
    if (this.vfToken === undefined) return token === undefined ? undefined : 'EINVAL';
    return token === this.vfToken ? undefined : 'EACCES';
  }

  // ---- lifetime -----------------------------------------------------------------------------------------------

  opened(): void {
    this.openCount++;
    if (this.openCount === 1) this.wasReset('open');
  }

  closed(): void {
    this.openCount--;
    if (this.openCount === 0) this.irqs.disableAll();
  }

  reset(): void {
    if (this.spec.vfio?.reset === false) throw kernelError('VFIO_DEVICE_RESET', 'EINVAL');
    this.wasReset('function');
  }

  wasReset(how: 'function' | 'hot' | 'flr' | 'open'): void {
    this.resets.push(how);
    this.lowPower = false;
    this.memory.clear();
    if (how === 'open') this.config.opened();
    else this.config.wasReset();
  }

  // ---- regions ------------------------------------------------------------------------------------------------

  private bar(index: number): FakeBarSpec | undefined {
    return this.spec.bars?.[index];
  }

  regionSize(index: number): number {
    if (index === VFIO_PCI_REGION.CONFIG) return this.config.size;
    if (index === VFIO_PCI_REGION.ROM) return this.spec.romBytes ?? 0;
    return this.bar(index)?.sizeBytes ?? 0;
  }

  isMappable(index: number): boolean {
    const bar = this.bar(index);
    return bar !== undefined && bar.kind !== 'io' && (bar.mmap ?? bar.sizeBytes >= PAGE);
  }

  feature(flags: number, _payload: Uint8Array): void {
    const feature = flags & 0xffff;
    if (!this.features.has(feature)) throw kernelError('VFIO_DEVICE_FEATURE', 'ENOTTY');
    if ((flags & VFIO_FEATURE_FLAGS.PROBE) !== 0) return;
    if (feature === VFIO_FEATURE.LOW_POWER_ENTRY || feature === VFIO_FEATURE.LOW_POWER_ENTRY_WITH_WAKEUP) {
      this.lowPower = true;
    } else if (feature === VFIO_FEATURE.LOW_POWER_EXIT) {
      this.lowPower = false;
    }
  }

  // ---- accesses -----------------------------------------------------------------------------------------------

  /** Whether loads and stores reach the BARs; if not, pread is EIO and a mapping is SIGBUS. */
  get answers(): boolean {
    return this.config.decodesMemory && !this.lowPower;
  }

  private store(index: number): Uint8Array {
    let bytes = this.memory.get(index);
    if (bytes === undefined) {
      bytes = new Uint8Array(this.regionSize(index));
      if (index === VFIO_PCI_REGION.ROM) bytes.set(this.spec.rom ?? []);
      this.memory.set(index, bytes);
    }
    return bytes;
  }

  /** Reads hit ~0 and writes vanish in the MSI-X table when they come through the fd; a mapping reaches the real table. */
  private hitsMsixTable(index: number, offset: number, width: number): boolean {
    const msix = msixOf(this.config.hardware);
    if (msix === undefined || msix.tableBar !== index) return false;
    return offset < msix.tableOffset + msix.vectors * 16 && msix.tableOffset < offset + width;
  }

  readMemory(index: number, offset: number, width: number, via: 'fd' | 'mmap'): bigint {
    const bytes = this.store(index).subarray(offset, offset + width);
    const hidden = via === 'fd' && this.hitsMsixTable(index, offset, width);
    const value = hidden
      ? (1n << BigInt(width * 8)) - 1n
      : (this.onRead?.(index, offset, width) ?? littleEndian(bytes));
    this.accesses.push({ region: index, offset, width, write: false, value, via });
    return value;
  }

  writeMemory(index: number, offset: number, width: number, value: bigint, via: 'fd' | 'mmap'): void {
    this.accesses.push({ region: index, offset, width, write: true, value, via });
    if (via === 'fd' && this.hitsMsixTable(index, offset, width)) return;
    this.onWrite?.(index, offset, width, value);
    const bytes = this.store(index);
    for (let i = 0; i < width; i++) bytes[offset + i] = Number((value >> BigInt(i * 8)) & 0xffn);
  }

  pread(at: number, into: Uint8Array): number {
    const [region, offset, refusal] = this.locate(at, into.length);
    if (refusal !== 0) return refusal;
    if (region === VFIO_PCI_REGION.CONFIG) {
      into.set(this.config.read(offset, into.length));
      const value = littleEndian(into);
      this.configAccesses.push({ region, offset, width: into.length, write: false, value, via: 'fd' });
      return into.length;
    }
    const value = this.readMemory(region, offset, into.length, 'fd');
    for (let i = 0; i < into.length; i++) into[i] = Number((value >> BigInt(i * 8)) & 0xffn);
    return into.length;
  }

  pwrite(at: number, from: Uint8Array): number {
    const [region, offset, refusal] = this.locate(at, from.length);
    if (refusal !== 0) return refusal;
    const value = littleEndian(from);
    if (region === VFIO_PCI_REGION.CONFIG) {
      this.configAccesses.push({ region, offset, width: from.length, write: true, value, via: 'fd' });
      this.config.write(offset, from);
      return from.length;
    }
    if (region === VFIO_PCI_REGION.ROM) return EINVAL;
    this.writeMemory(region, offset, from.length, value, 'fd');
    return from.length;
  }

  /** Region and offset of a file offset, and the errno that an access there gives (negative), 0 for none. */
  private locate(at: number, width: number): [region: number, offset: number, refusal: number] {
    const region = Math.floor(at / REGION_STRIDE);
    const offset = at % REGION_STRIDE;
    const size = region > VFIO_PCI_REGION.CONFIG ? 0 : this.regionSize(region);
    if (region === VFIO_PCI_REGION.CONFIG) return [region, offset, offset + width > size ? EFAULT : 0];
    if (offset + width > size) return [region, offset, EINVAL];
    const isIo = this.bar(region)?.kind === 'io';
    return [region, offset, isIo || this.answers ? 0 : EIO];
  }

  checkMap(at: number, sizeBytes: number): void {
    const region = Math.floor(at / REGION_STRIDE);
    const offset = at % REGION_STRIDE;
    const room = Math.ceil(this.regionSize(region) / PAGE) * PAGE;
    const asked = Math.ceil(sizeBytes / PAGE) * PAGE;
    if (region > VFIO_PCI_REGION.BAR5 || !this.isMappable(region) || offset + asked > room) {
      throw kernelError('mmap', 'EINVAL');
    }
  }
}
