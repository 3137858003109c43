import fc from 'fast-check';
import { expect, test } from 'vitest';
import { FakeBus } from './fake-bus.ts';
import { COM1_GSI, COM1_PORT, COM2_GSI, COM2_PORT, Serial } from './serial.ts';
import { FCR, IER, IIR, LCR, LSR, MCR, MSR_CONNECTED, UART } from './uart-registers.ts';

class Guest {
  readonly bus = new FakeBus();
  readonly printed: string[] = [];
  readonly serial = new Serial({ onOutput: (bytes) => this.printed.push(Buffer.from(bytes).toString('latin1')) });

  constructor() {
    this.serial.attach(this.bus);
  }

  in(register: number): number {
    return this.bus.in(COM1_PORT + register);
  }

  out(register: number, value: number): void {
    this.bus.out(COM1_PORT + register, value);
  }

  get irq(): boolean {
    return this.bus.irqs.get(COM1_GSI) ?? false;
  }

  type(text: string): number {
    return this.serial.input(Buffer.from(text));
  }

  /** As a driver starts the port: FIFO on, 8n1, interrupt connected. */
  open(ier: number): void {
    this.out(UART.iir, FCR.enable | FCR.clearReceive | FCR.clearTransmit);
    this.out(UART.lcr, 0x03);
    this.out(UART.mcr, MCR.dtr | MCR.rts | MCR.out2);
    this.out(UART.ier, ier);
  }
}

test("Linux's autoconfig takes it for a 16550A", () => {
  // drivers/tty/serial/8250/8250_port.c: autoconfig(), autoconfig_16550a().
  const guest = new Guest();
  guest.out(UART.ier, 0);
  expect(guest.in(UART.ier)).toBe(0);
  guest.out(UART.ier, 0x0f);
  expect(guest.in(UART.ier)).toBe(0x0f);
  guest.out(UART.ier, 0);
  const mcr = guest.in(UART.mcr);
  guest.out(UART.mcr, MCR.loop | MCR.out2 | MCR.rts);
  expect(guest.in(UART.msr) & 0xf0).toBe(0x90);
  guest.out(UART.mcr, mcr);
  guest.out(UART.lcr, 0xbf);
  guest.out(UART.iir, 0);
  guest.out(UART.lcr, 0);
  guest.out(UART.iir, FCR.enable);
  expect(guest.in(UART.iir) & IIR.fifo).toBe(IIR.fifo);
  // No enhanced features behind either divisor-latch setting: 16C650, 16C850.
  for (const lcr of [0x80, 0xbf]) {
    guest.out(UART.lcr, lcr);
    expect(guest.in(UART.iir)).not.toBe(0);
  }
  // No Super I/O bank, no 64-byte FIFO, no XScale unit enable.
  guest.out(UART.lcr, 0);
  const modem = guest.in(UART.mcr);
  guest.out(UART.mcr, modem ^ MCR.loop);
  guest.out(UART.lcr, 0xe0);
  const bank = guest.in(UART.iir);
  guest.out(UART.lcr, 0);
  guest.out(UART.mcr, modem);
  expect((bank ^ modem) & MCR.loop).toBe(0);
  guest.out(UART.iir, FCR.enable | 0x20);
  expect(guest.in(UART.iir) >> 5).toBe(6);
  guest.out(UART.lcr, LCR.dlab);
  guest.out(UART.iir, FCR.enable | 0x20);
  expect(guest.in(UART.iir) >> 5).toBe(6);
  guest.out(UART.lcr, 0);
  guest.out(UART.ier, 0x40);
  expect(guest.in(UART.ier) & 0x40).toBe(0);
  // size_fifo(): sixteen of the bytes looped back are kept.
  guest.out(UART.mcr, MCR.loop);
  for (let i = 0; i < 256; i++) guest.out(UART.data, i);
  guest.bus.drain();
  let count = 0;
  while (guest.in(UART.lsr) & LSR.dataReady) expect(guest.in(UART.data)).toBe(count++);
  expect(count).toBe(16);
  expect(guest.printed).toEqual([]);
});

test("Linux's startup test sees the transmit interrupt raised anew each time it is enabled", () => {
  const guest = new Guest();
  guest.open(0);
  for (let i = 0; i < 2; i++) {
    guest.out(UART.ier, IER.transmit);
    expect(guest.in(UART.iir) & 0x0f).toBe(IIR.transmit);
    guest.out(UART.ier, 0);
  }
});

test('polled output needs no call and arrives in one piece', async () => {
  const guest = new Guest();
  guest.open(0);
  const calls = guest.bus.calls;
  for (const char of 'hello\r\n') {
    expect(guest.in(UART.lsr) & LSR.transmitterEmpty).toBe(LSR.transmitterEmpty);
    guest.out(UART.data, char.charCodeAt(0));
  }
  expect(guest.bus.calls).toBe(calls);
  guest.bus.drain();
  expect(guest.printed).toEqual([]);
  await Promise.resolve();
  expect(guest.printed).toEqual(['hello\r\n']);
});

test('interrupt-driven output: identification clears, a byte sets again, line follows', () => {
  const guest = new Guest();
  guest.open(IER.transmit);
  expect(guest.irq).toBe(true);
  expect(guest.in(UART.iir)).toBe(IIR.transmit | IIR.fifo);
  expect(guest.irq).toBe(false);
  expect(guest.in(UART.iir)).toBe(IIR.none | IIR.fifo);
  for (const char of 'sixteen at once.') guest.out(UART.data, char.charCodeAt(0));
  guest.bus.drain();
  expect(guest.irq).toBe(true);
  expect(guest.bus.irqChanges).toEqual(['4+', '4-', '4+']);
  guest.out(UART.ier, 0);
  expect(guest.irq).toBe(false);
  guest.serial.flush();
  expect(guest.printed).toEqual(['sixteen at once.']);
});

test('interrupt-driven input: trigger level, timeout, refill from what waits on the host', () => {
  const guest = new Guest();
  guest.open(0);
  guest.out(UART.iir, FCR.enable | 0x80);
  guest.out(UART.ier, IER.receive);
  guest.type('abc');
  expect(guest.irq).toBe(true);
  expect(guest.in(UART.iir)).toBe(IIR.timeout | IIR.fifo);
  guest.type('defghijklmnopqrstuvwxyz');
  expect(guest.in(UART.iir)).toBe(IIR.receive | IIR.fifo);
  let text = '';
  while (guest.in(UART.lsr) & LSR.dataReady) text += String.fromCharCode(guest.in(UART.data));
  expect(text).toBe('abcdefghijklmnopqrstuvwxyz');
  expect(guest.irq).toBe(false);
  expect(guest.in(UART.data)).toBe(0);
});

test('data is announced in LSR before the line rises', () => {
  const guest = new Guest();
  guest.open(IER.receive);
  let status = 0;
  guest.bus.setIrq = () => {
    status = guest.in(UART.lsr);
  };
  guest.type('x');
  expect(status & LSR.dataReady).toBe(LSR.dataReady);
});

test('without the FIFO one byte is held; a FIFO reset throws away what it held only', () => {
  const guest = new Guest();
  guest.type('ab');
  expect(guest.in(UART.data)).toBe(0x61);
  expect(guest.in(UART.data)).toBe(0x62);
  guest.open(0);
  guest.type('x'.repeat(16));
  guest.type('y');
  guest.out(UART.iir, FCR.enable | FCR.clearReceive);
  expect(guest.in(UART.data)).toBe(0x79);
});

test('the divisor latch hides data and interrupt enable', () => {
  const guest = new Guest();
  guest.open(IER.receive);
  guest.out(UART.lcr, 0x83);
  guest.out(UART.data, 0x34);
  guest.out(UART.ier, 0x12);
  expect([guest.in(UART.data), guest.in(UART.ier)]).toEqual([0x34, 0x12]);
  guest.out(UART.lcr, 0x03);
  expect(guest.in(UART.ier)).toBe(IER.receive);
  guest.serial.flush();
  expect(guest.printed).toEqual([]);
});

test('modem deltas: set by loopback, told by interrupt, cleared by reading', () => {
  const guest = new Guest();
  guest.open(IER.modem);
  expect(guest.in(UART.msr)).toBe(MSR_CONNECTED);
  guest.out(UART.mcr, MCR.loop | MCR.out1 | MCR.out2);
  // CTS and DSR fell; carrier stayed; the ring indicator tells only its end.
  expect(guest.in(UART.msr)).toBe(0xc3);
  expect(guest.in(UART.msr)).toBe(0xc0);
  guest.out(UART.mcr, MCR.out2);
  expect(guest.irq).toBe(true);
  expect(guest.in(UART.iir) & 0x0f).toBe(IIR.modem);
  expect(guest.in(UART.msr)).toBe(MSR_CONNECTED | 0x07);
  expect(guest.irq).toBe(false);
  const { calls } = guest.bus;
  expect(guest.in(UART.msr)).toBe(MSR_CONNECTED);
  expect(guest.bus.calls).toBe(calls);
});

test('OUT2 connects the interrupt', () => {
  const guest = new Guest();
  guest.open(IER.receive);
  guest.type('x');
  guest.out(UART.mcr, MCR.dtr);
  expect(guest.irq).toBe(false);
  guest.out(UART.mcr, MCR.out2);
  expect(guest.irq).toBe(true);
});

test('a power cycle resets registers and line, and keeps what was typed', () => {
  const guest = new Guest();
  guest.open(IER.receive | IER.transmit);
  guest.out(UART.scr, 0x5a);
  guest.out(UART.data, 0x41);
  guest.bus.drain();
  guest.serial.detach();
  expect(guest.printed).toEqual(['A']);
  guest.type('later');
  const bus = new FakeBus();
  guest.serial.attach(bus);
  expect(bus.irqChanges).toEqual([]);
  expect([UART.ier, UART.lcr, UART.mcr, UART.scr].map((register) => bus.in(COM1_PORT + register))).toEqual([
    0, 0, 0, 0,
  ]);
  expect(bus.in(COM1_PORT + UART.data)).toBe('l'.charCodeAt(0));
});

test('a break is a NUL of its own, with the break bit until it is read, after what was typed before', () => {
  const guest = new Guest();
  guest.open(IER.receive);
  guest.type('a');
  guest.serial.sendBreak();
  guest.type('t');
  const read = (): (number | string)[] => [
    guest.in(UART.lsr) & (LSR.break | LSR.fifoError | LSR.dataReady),
    guest.irq ? 'irq' : '-',
    guest.in(UART.data),
  ];
  expect(read()).toEqual([LSR.dataReady, 'irq', 'a'.charCodeAt(0)]);
  expect(read()).toEqual([LSR.dataReady | LSR.break | LSR.fifoError, 'irq', 0]);
  expect(read()).toEqual([LSR.dataReady, 'irq', 't'.charCodeAt(0)]);
  expect(read()).toEqual([0, '-', 0]);
});

test('breaks that nobody reads are one break, and clearing the queue takes it away', () => {
  const guest = new Guest();
  guest.serial.sendBreak();
  guest.serial.sendBreak();
  guest.serial.sendBreak();
  guest.open(IER.receive);
  // The first was in the receiver when the driver cleared it; the others follow as one.
  expect(guest.in(UART.lsr) & LSR.break).toBe(LSR.break);
  expect(guest.in(UART.data)).toBe(0);
  expect(guest.in(UART.lsr) & (LSR.break | LSR.dataReady)).toBe(0);
});

test('the second port has ports and an interrupt line of its own', () => {
  const bus = new FakeBus();
  const printed: string[] = [];
  const onOutput = (bytes: Uint8Array) => printed.push(Buffer.from(bytes).toString('latin1'));
  const first = new Serial({ onOutput });
  const second = new Serial({ port: COM2_PORT, gsi: COM2_GSI, onOutput });
  first.attach(bus);
  second.attach(bus);
  bus.out(COM2_PORT + UART.mcr, MCR.out2);
  bus.out(COM2_PORT + UART.ier, IER.receive);
  second.input(Buffer.from('x'));
  expect(bus.irqs.get(COM2_GSI)).toBe(true);
  expect(bus.irqs.get(COM1_GSI) ?? false).toBe(false);
  expect(bus.in(COM2_PORT + UART.data)).toBe('x'.charCodeAt(0));
});

test('input beyond a mebibyte is refused and counted', () => {
  const guest = new Guest();
  expect(guest.type('x'.repeat(1024 * 1024 + 100))).toBe(1024 * 1024);
  // One of them is in the receiver by now.
  expect(guest.type('more')).toBe(1);
  expect(guest.type('more')).toBe(0);
});

test('whatever a guest does, registers stay bytes and the line agrees with the identification', () => {
  const access = fc.record({ port: fc.nat(7), width: fc.constantFrom(1, 2, 4), value: fc.nat(0xffff_ffff) });
  const step = fc.oneof(
    access,
    access,
    fc.constant('type' as const),
    fc.constantFrom('drain' as const, 'break' as const),
    fc.nat(7),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const guest = new Guest();
      for (const action of steps) {
        if (action === 'type') guest.type('0123456789abcdef!');
        else if (action === 'drain') guest.bus.drain();
        else if (action === 'break') guest.serial.sendBreak();
        else if (typeof action === 'number') expect(guest.in(action)).toBeLessThan(256);
        else guest.bus.out(COM1_PORT + action.port, action.value, action.width);
      }
      guest.bus.drain();
      const connected = (guest.in(UART.mcr) & (MCR.out2 | MCR.loop)) === MCR.out2;
      const before = guest.irq;
      expect(before).toBe(connected && (guest.in(UART.iir) & IIR.none) === 0);
    }),
  );
});
