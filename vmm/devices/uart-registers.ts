/** Names for the registers of a 16550A (National Semiconductor PC16550D data sheet, §8). */

/** Offsets from the base port. What offsets 0 and 1 mean depends on {@link LCR.dlab}; offset 2 reads IIR, writes FCR. */
export const UART = { data: 0, ier: 1, iir: 2, lcr: 3, mcr: 4, lsr: 5, msr: 6, scr: 7 } as const;
export const UART_PORTS = 8;

export const IER = { receive: 0x01, transmit: 0x02, line: 0x04, modem: 0x08, all: 0x0f } as const;

/** Interrupt identification, by falling priority. The line-status interrupt does not occur: a break is told by the receive interrupt. */
export const IIR = { receive: 0x04, timeout: 0x0c, transmit: 0x02, modem: 0x00, none: 0x01, fifo: 0xc0 } as const;

export const FCR = { enable: 0x01, clearReceive: 0x02, clearTransmit: 0x04 } as const;

/** Receive levels by the two top bits of FCR. */
export const FIFO_TRIGGER = [1, 4, 8, 14] as const;
export const FIFO_DEPTH = 16;

export const LCR = { dlab: 0x80 } as const;
export const MCR = { dtr: 0x01, rts: 0x02, out1: 0x04, out2: 0x08, loop: 0x10, all: 0x1f } as const;
export const LSR = { dataReady: 0x01, break: 0x10, transmitterEmpty: 0x60, fifoError: 0x80 } as const;
export const MSR = { cts: 0x10, dsr: 0x20, ring: 0x40, carrier: 0x80, deltas: 0x0f, ringEnded: 0x04 } as const;

/** MSR while the modem lines are the emulated wire: a peer that is always there. */
export const MSR_CONNECTED: number = MSR.cts | MSR.dsr | MSR.carrier;

/** MSR in loopback: the modem outputs come back as inputs (data sheet §8.6.7). */
export function loopedModemLines(mcr: number): number {
  return (
    (mcr & MCR.rts ? MSR.cts : 0) |
    (mcr & MCR.dtr ? MSR.dsr : 0) |
    (mcr & MCR.out1 ? MSR.ring : 0) |
    (mcr & MCR.out2 ? MSR.carrier : 0)
  );
}

/** Delta bits that a change of the modem lines sets; the ring indicator reports only its end. */
export function modemDeltas(before: number, after: number): number {
  const changed = ((before ^ after) >> 4) & MSR.deltas & ~MSR.ringEnded;
  return changed | (before & MSR.ring && !(after & MSR.ring) ? MSR.ringEnded : 0);
}
