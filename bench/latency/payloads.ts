/** What is measured of assigned devices: bare-metal payloads, the device that each needs, and what its numbers mean. */

/** One row of the report. */
export interface Measure {
  /** Name of the payload's distribution, in ns. */
  readonly distribution: string;
  readonly title: string;
  /** It is the time that so many bytes take: told as a rate. */
  readonly bytes?: number;
}

export interface LatencyPayload {
  /** Of `guest-tests/bare/payloads`. */
  readonly payload: string;
  /** QEMU's name of the device in the lab. */
  readonly model: string;
  readonly measures: readonly Measure[];
}

const PIECE_BYTES = 64 * 1024;

/** `nvme` is the one with MSI-X, `bochs-display` the one with a BAR of plain memory. */
export const LATENCY_PAYLOADS: readonly LatencyPayload[] = [
  {
    payload: 'edu-irq',
    model: 'edu',
    measures: [
      { distribution: 'intx-latency', title: 'INTx: device raises to handler runs' },
      { distribution: 'msi-latency', title: 'MSI: device raises to handler runs' },
    ],
  },
  {
    payload: 'nvme-msix',
    model: 'nvme',
    measures: [{ distribution: 'command-to-interrupt', title: 'MSI-X: NVMe read, doorbell to handler runs' }],
  },
  {
    payload: 'access-latency',
    model: 'nvme',
    measures: [
      { distribution: 'config-read-ecam', title: 'config space, read by ECAM' },
      { distribution: 'config-read-port', title: 'config space, read by ports (two exits)' },
      { distribution: 'config-write-ecam', title: 'config space, write by ECAM' },
      { distribution: 'msix-table-read', title: 'MSI-X table, read' },
      { distribution: 'msix-table-write', title: 'MSI-X table, write' },
      { distribution: 'trapped-read', title: "register in the MSI-X table's page, read" },
    ],
  },
  {
    payload: 'edu-mmio',
    model: 'edu',
    measures: [
      { distribution: 'read-latency', title: 'register of a mapped BAR, read' },
      { distribution: 'write-latency', title: 'register of a mapped BAR, write' },
    ],
  },
  {
    payload: 'bar-throughput',
    model: 'bochs-display',
    measures: [
      { distribution: 'uc-write-64k', title: 'BAR of memory, written uncached', bytes: PIECE_BYTES },
      { distribution: 'wc-write-64k', title: 'BAR of memory, written write-combining', bytes: PIECE_BYTES },
      { distribution: 'uc-read-64k', title: 'BAR of memory, read uncached', bytes: PIECE_BYTES },
    ],
  },
];
