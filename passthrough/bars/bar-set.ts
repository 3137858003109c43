/**
 * All BARs of one open device: what the guest gets of them, what stands behind each part, and their memory in this
 * process. Fixed from open to close; where they lie in a guest is the business of {@link Mapping}.
 */
import type { Native } from '../../native/types.ts';
import type { MsixRelocation, WcModes } from '../../vmm/config/model.ts';
import { type BarReport, type BarRequest, ROM_BAR } from '../../vmm/pci/function.ts';
import type { HostResource } from '../host/sysfs.ts';
import type { VfioDevice } from '../vfio/device.ts';
import { barRequests, romRequest } from './bar-requests.ts';
import { type BackedArea, type Piece, splitBar } from './desired-mapping.ts';
import { BarMaps } from './mapping.ts';
import { hardwareMsix, usableMsix } from './msix-layout.ts';
import { type MsixPlacement, placeMsix, unsafeInterrupts } from './msix-relocation.ts';
import { WcReporter } from './wc-reporter.ts';
import type { WcFacts } from './write-combining.ts';

export interface BarSetOptions {
  readonly native: Native;
  readonly device: VfioDevice;
  /** Config space of the hardware as it was at open. */
  readonly hardware: Uint8Array;
  readonly resources: readonly HostResource[];
  readonly label: string;
  readonly wc: WcModes | undefined;
  readonly wcFacts: WcFacts;
  /** Of the expansion ROM, a power of two; undefined when the guest has none. */
  readonly romBytes: Uint8Array | undefined;
  readonly msixRelocation: MsixRelocation | undefined;
  readonly warn: (message: string) => void;
}

export class BarSet {
  /** With the ROM's, where the guest has one. */
  readonly requests: readonly BarRequest[];
  /** Undefined when the guest gets no MSI-X. */
  readonly msix: MsixPlacement | undefined;
  readonly maps: BarMaps;
  readonly #wc: WcReporter;
  readonly #areas = new Map<number, readonly BackedArea[]>();

  /** @throws CausewayError DEVICE_UNSUPPORTED for a relocation that is not possible */
  constructor(options: BarSetOptions) {
    const { native, device, hardware, resources, label, romBytes, warn } = options;
    const own = barRequests(device.regions, resources, hardware);
    const silicon = hardwareMsix(hardware);
    const layout = usableMsix(silicon, device, own, warn);
    const wish = options.msixRelocation ?? 'off';
    const { pageSizeBytes: pageBytes } = native;
    this.msix = layout && placeMsix(wish, layout, own, { unsafe: unsafeInterrupts(native), label, pageBytes });
    const bars = this.msix?.bars ?? own;
    this.maps = new BarMaps(native, device, bars, resources, (message) => warn(message));
    this.#wc = new WcReporter({
      native,
      device,
      resources,
      maps: this.maps,
      modes: options.wc,
      facts: options.wcFacts,
    });
    // The real table stays out of the guest's reach whether its MSI-X is usable or not.
    const split = this.msix ?? (silicon && { guest: silicon, hardware: silicon, isRelocated: false });
    for (const bar of bars) {
      const region = { ...device.regions[bar.index]!, mmapAreas: this.maps.areasOf(bar.index) };
      this.#areas.set(bar.index, this.#wc.areasFor(bar.index, splitBar(bar, region, split, pageBytes)));
    }
    if (romBytes) this.#mapRom(native, romBytes);
    this.requests = romBytes ? [...bars, romRequest(romBytes.length)] : bars;
  }

  /** What stands behind a BAR, in the order of offsets. */
  areasOf(bar: number): readonly BackedArea[] {
    return this.#areas.get(bar) ?? [];
  }

  /** @throws CausewayError DEVICE_UNSUPPORTED when write-combining is required and not to be had */
  checkWriteCombining(label: string, warn: (message: string) => void): void {
    const bars = this.requests.filter(({ index }) => index !== ROM_BAR);
    this.#wc.check(label, bars, (bar) => this.areasOf(bar), warn);
  }

  /**
   * @param gpa where the guest decodes it, if it does
   * @param mapped the pieces that are there at the moment
   */
  report(bar: BarRequest, gpa: number | undefined, mapped: readonly Piece[]): BarReport {
    const present = mapped.filter((piece) => piece.bar === bar.index);
    const backed = this.areasOf(bar.index).map(
      (area) => present.find((piece) => piece.area.offset === area.offset)?.area ?? area,
    );
    const wc = bar.index === ROM_BAR ? undefined : this.#wc.report(bar, backed, gpa);
    const areas = backed.map(({ backing: _, ...area }) => area);
    return { ...bar, areas, ...(gpa === undefined ? {} : { gpa }), ...(wc ? { wc } : {}) };
  }

  /** A copy in this process's memory, which the guest gets as a read-only slot. */
  #mapRom(native: Native, bytes: Uint8Array): void {
    const hva = native.mapAnonymous(bytes.length);
    new Uint8Array(native.view(hva, bytes.length)).set(bytes);
    this.maps.add(ROM_BAR, hva, bytes.length);
    this.#areas.set(ROM_BAR, [
      { offset: 0, sizeBytes: bytes.length, mode: 'direct', why: 'read-only copy', backing: 'rom' },
    ]);
  }
}
