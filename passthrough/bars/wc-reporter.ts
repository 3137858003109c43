/** What holds of write-combining on the BARs of one open device: where they lie, what maps them, what was asked for. */
import type { HostFiles } from '../../native/types.ts';
import type { WcModes } from '../../vmm/config/model.ts';
import type { BarRequest, WriteCombining } from '../../vmm/pci/function.ts';
import type { HostResource } from '../host/sysfs.ts';
import type { VfioDevice } from '../vfio/device.ts';
import type { BackedArea } from './desired-mapping.ts';
import type { BarMaps } from './mapping.ts';
import { areasFor, DEFAULT_WC, largestPage, reportWc, requireWc, type WcFacts, wcModeOf } from './write-combining.ts';

export interface WcReporterOptions {
  readonly native: HostFiles;
  readonly device: VfioDevice;
  readonly resources: readonly HostResource[];
  readonly maps: BarMaps;
  /** Default: `auto` for every BAR. */
  readonly modes: WcModes | undefined;
  readonly facts: WcFacts;
}

export class WcReporter {
  readonly #options: WcReporterOptions;
  readonly #modes: WcModes;

  constructor(options: WcReporterOptions) {
    this.#options = options;
    this.#modes = options.modes ?? DEFAULT_WC;
  }

  /** The areas of a BAR as its mode wants them. */
  areasFor(bar: number, areas: readonly BackedArea[]): readonly BackedArea[] {
    return areasFor(wcModeOf(this.#modes, bar), areas);
  }

  /** @param gpa where the guest decodes the BAR, if it does. Undefined for ports. */
  report(bar: BarRequest, areas: readonly BackedArea[], gpa: number | undefined): WriteCombining | undefined {
    if (bar.kind !== 'memory') return undefined;
    const { native, device, resources, maps, facts } = this.#options;
    const hostAddress = resources[bar.index]?.start ?? 0;
    const direct = gpa === undefined ? [] : areas.filter((area) => area.mode === 'direct');
    const pages = direct.map(({ offset, sizeBytes }) => {
      const hva = maps.hva(bar.index, { start: offset, size: sizeBytes });
      return largestPage(gpa! + offset, hva, hostAddress + offset, sizeBytes);
    });
    const subject = {
      bar,
      mode: wcModeOf(this.#modes, bar.index),
      areas,
      hostAddress,
      sizeBytes: device.regions[bar.index]!.sizeBytes,
      ...(pages.length > 0 ? { largestPageBytes: Math.max(...pages) } : {}),
    };
    return reportWc(native, subject, facts);
  }

  /**
   * Before the first boot.
   * @throws CausewayError DEVICE_UNSUPPORTED when write-combining is required and not to be had
   */
  check(
    label: string,
    bars: readonly BarRequest[],
    areasOf: (bar: number) => readonly BackedArea[],
    warn: (message: string) => void,
  ): void {
    const reports = bars.flatMap((bar) => {
      const wc = this.report(bar, areasOf(bar.index), undefined);
      if (wc?.hostWc === 'not available on this kernel') {
        warn(`BAR${bar.index}: write-combining for the VMM itself (wc "host") is not available on this kernel`);
      }
      return wc ? [{ bar, wc }] : [];
    });
    requireWc(label, this.#modes, reports);
  }
}
