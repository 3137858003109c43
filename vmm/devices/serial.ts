/**
 * A 16550A serial port. The transmitter is infinitely fast, so a written byte is gone at once and transmission never
 * waits. The only line error is a break; it stays in LSR until its character is read, not until LSR is (data sheet
 * §8.4), so that reading LSR has no side effect and needs no call.
 */
import type { TrapHandler, TrapMap } from '../bus/trap.ts';
import { ByteQueue } from './byte-queue.ts';
import type { Device, DeviceBus } from './device.ts';
import {
  FCR,
  FIFO_DEPTH,
  FIFO_TRIGGER,
  IER,
  IIR,
  LCR,
  LSR,
  loopedModemLines,
  MCR,
  MSR,
  MSR_CONNECTED,
  modemDeltas,
  UART,
  UART_PORTS,
} from './uart-registers.ts';

export const COM1_PORT = 0x3f8;
export const COM1_GSI = 4;
export const COM2_PORT = 0x2f8;
export const COM2_GSI = 3;

const INPUT_LIMIT_BYTES = 1024 * 1024;
const OUTPUT_BATCH_BYTES = 4096;
/** 9600 baud: what firmware usually leaves behind. */
const DIVISOR_AT_RESET = 12;

export interface SerialOptions {
  /** First of eight ports. Default COM1. */
  readonly port?: number;
  /** Interrupt line. Default that of COM1. */
  readonly gsi?: number;
  /** What the guest wrote: everything since the last call, at the end of the current turn of the event loop. */
  readonly onOutput: (bytes: Uint8Array) => void;
}

export class Serial implements Device {
  readonly #port: number;
  readonly #gsi: number;
  readonly #onOutput: (bytes: Uint8Array) => void;
  readonly #output = new Uint8Array(OUTPUT_BATCH_BYTES);
  #outputLength = 0;
  #flushScheduled = false;
  /** Typed by the host, not yet in the receiver. */
  readonly #waiting = new ByteQueue(INPUT_LIMIT_BYTES);
  readonly #receiver = new ByteQueue(FIFO_DEPTH);
  /** How many of the waiting bytes come before a break; undefined without one. */
  #breakAfter: number | undefined;
  /** The one character in the receiver is a break. */
  #breakReceived = false;

  #bus: DeviceBus | undefined;
  /** What vCPU threads read, by register offset. Offsets 0 and 2 are not served from here. */
  #registers: Uint8Array = new Uint8Array(UART_PORTS);
  #modemTrapIsCall = false;
  #irqLevel = false;
  #ier = 0;
  #fcr = 0;
  #divisor = DIVISOR_AT_RESET;
  /** The transmitter ran empty and nobody was told yet. */
  #transmitPending = false;

  constructor(options: SerialOptions) {
    this.#port = options.port ?? COM1_PORT;
    this.#gsi = options.gsi ?? COM1_GSI;
    this.#onOutput = options.onOutput;
  }

  attach(bus: DeviceBus): void {
    this.#bus = bus;
    this.#irqLevel = false;
    this.#modemTrapIsCall = false;
    this.#registers = bus.ports.allocateShared(UART_PORTS);
    this.#addTrap(bus.ports, UART.data, 1, 'call');
    this.#addTrap(bus.ports, UART.ier, 1, 'shared');
    this.#addTrap(bus.ports, UART.iir, 1, 'call');
    this.#addTrap(bus.ports, UART.lcr, 3, 'shared');
    this.#addTrap(bus.ports, UART.msr, 1, 'shared');
    this.#addTrap(bus.ports, UART.scr, 1, 'shared');
    this.reset();
  }

  /** Lets go of the bus at the end of a power cycle; what is typed then waits for the next one. */
  detach(): void {
    this.flush();
    this.#bus = undefined;
  }

  reset(): void {
    this.#ier = 0;
    this.#fcr = 0;
    this.#divisor = DIVISOR_AT_RESET;
    this.#transmitPending = false;
    this.#clearReceiver();
    this.#registers.fill(0);
    this.#registers[UART.msr] = MSR_CONNECTED;
    this.#update();
  }

  /** Types into the guest. Returns how many bytes were taken: fewer when a mebibyte waits already. */
  input(bytes: Uint8Array): number {
    let taken = 0;
    while (taken < bytes.length && this.#waiting.push(bytes[taken]!)) taken++;
    this.#update();
    return taken;
  }

  /** Holds the line low for a while, after what was typed before. One break waits at a time; further ones are part of it. */
  sendBreak(): void {
    this.#breakAfter ??= this.#waiting.length;
    this.#update();
  }

  /** Hands over output that waits for the end of the turn. */
  flush(): void {
    this.#flushScheduled = false;
    if (this.#outputLength === 0) return;
    const bytes = this.#output.slice(0, this.#outputLength);
    this.#outputLength = 0;
    this.#onOutput(bytes);
  }

  #addTrap(ports: TrapMap, first: number, size: number, kind: 'call' | 'shared'): void {
    const handler: TrapHandler = {
      read: (offset) => this.#read(first + offset),
      write: (offset, width, value) => {
        // An 8-bit device sees a wide access as one access per byte, in ascending order.
        for (let i = 0; i < width && offset + i < size; i++)
          this.#write(first + offset + i, (value >>> (8 * i)) & 0xff);
      },
    };
    const name = 'serial';
    if (kind === 'shared') {
      const bytes = this.#registers.subarray(first, first + size);
      ports.add(this.#port + first, size, { kind, name, bytes, handler });
      return;
    }
    // Output need not wait for the machine thread; reading the receiver must.
    const trap = { kind, name, handler, post: first === UART.data };
    ports.add(this.#port + first, size, trap);
  }

  #read(register: number): number {
    switch (register) {
      case UART.data:
        return this.#latched ? this.#divisor & 0xff : this.#readData();
      case UART.iir:
        return this.#readInterruptId();
      case UART.msr:
        return this.#readModemStatus();
      default:
        return this.#registers[register] ?? 0xff;
    }
  }

  #write(register: number, value: number): void {
    switch (register) {
      case UART.data:
        if (this.#latched) this.#divisor = (this.#divisor & 0xff00) | value;
        else this.#transmit(value);
        break;
      case UART.ier:
        if (this.#latched) this.#divisor = (this.#divisor & 0xff) | (value << 8);
        else this.#writeInterruptEnable(value & IER.all);
        break;
      case UART.iir:
        this.#writeFifoControl(value);
        break;
      case UART.lcr:
      case UART.scr:
        this.#registers[register] = value;
        break;
      case UART.mcr:
        this.#writeModemControl(value & MCR.all);
        break;
      default:
      // LSR and MSR are read-only; writing them is a factory test (data sheet §8.6.8).
    }
    this.#update();
  }

  /** Offsets 0 and 1 are the divisor latch. */
  get #latched(): boolean {
    return (this.#registers[UART.lcr]! & LCR.dlab) !== 0;
  }

  get #looped(): boolean {
    return (this.#registers[UART.mcr]! & MCR.loop) !== 0;
  }

  #readData(): number {
    const byte = this.#receiver.shift() ?? 0;
    this.#breakReceived = false;
    this.#update();
    return byte;
  }

  #readInterruptId(): number {
    const id = this.#interruptId();
    // Being told is what clears it (data sheet §8.5); the receive interrupts stay until the data is read.
    if (id === IIR.transmit) {
      this.#transmitPending = false;
      this.#update();
    }
    return id | (this.#fcr & FCR.enable ? IIR.fifo : 0);
  }

  #readModemStatus(): number {
    const value = this.#registers[UART.msr]!;
    this.#registers[UART.msr] = value & ~MSR.deltas;
    this.#update();
    return value;
  }

  #transmit(byte: number): void {
    this.#transmitPending = true;
    if (this.#looped) {
      if (this.#receiver.length < this.#receiverDepth) this.#receiver.push(byte);
      return;
    }
    this.#output[this.#outputLength++] = byte;
    if (this.#outputLength === OUTPUT_BATCH_BYTES) this.flush();
    else if (!this.#flushScheduled) {
      this.#flushScheduled = true;
      queueMicrotask(() => this.flush());
    }
  }

  #writeInterruptEnable(value: number): void {
    // Enabling the transmit interrupt while the transmitter is empty raises it anew: Linux tests for that.
    if (value & ~this.#ier & IER.transmit) this.#transmitPending = true;
    this.#ier = value;
  }

  #writeFifoControl(value: number): void {
    const toggled = (value ^ this.#fcr) & FCR.enable;
    if (toggled || value & FCR.clearReceive) this.#clearReceiver();
    // Without the enable bit the others are not taken (data sheet §8.4).
    this.#fcr = value & FCR.enable ? value & 0xc9 : 0;
  }

  #writeModemControl(value: number): void {
    this.#registers[UART.mcr] = value;
    const before = this.#registers[UART.msr]!;
    const lines = value & MCR.loop ? loopedModemLines(value) : MSR_CONNECTED;
    this.#registers[UART.msr] = lines | (before & MSR.deltas) | modemDeltas(before, lines);
  }

  get #receiverDepth(): number {
    return this.#fcr & FCR.enable ? FIFO_DEPTH : 1;
  }

  #interruptId(): number {
    if (this.#ier & IER.receive && this.#receiver.length > 0) {
      const trigger = this.#fcr & FCR.enable ? FIFO_TRIGGER[(this.#fcr >> 6) as 0 | 1 | 2 | 3] : 1;
      // Nothing more comes while it waits here, so the four character times of the timeout are over at once.
      return this.#receiver.length >= trigger ? IIR.receive : IIR.timeout;
    }
    if (this.#ier & IER.transmit && this.#transmitPending) return IIR.transmit;
    if (this.#ier & IER.modem && this.#registers[UART.msr]! & MSR.deltas) return IIR.modem;
    return IIR.none;
  }

  /** Makes registers, traps and interrupt line agree with the state; the line last, since the guest reads at once. */
  #update(): void {
    if (this.#bus && !this.#looped) this.#receiveWaiting();
    this.#registers[UART.ier] = this.#latched ? this.#divisor >> 8 : this.#ier;
    this.#registers[UART.lsr] =
      LSR.transmitterEmpty |
      (this.#receiver.length > 0 ? LSR.dataReady : 0) |
      (this.#breakReceived ? LSR.break | LSR.fifoError : 0);
    if (!this.#bus) return;
    this.#chooseModemTrap(this.#bus.ports);
    // On a PC, OUT2 connects the interrupt to the bus, and loopback disconnects OUT2.
    const connected = (this.#registers[UART.mcr]! & (MCR.out2 | MCR.loop)) === MCR.out2;
    const level = connected && this.#interruptId() !== IIR.none;
    if (level === this.#irqLevel) return;
    this.#irqLevel = level;
    this.#bus.setIrq(this.#gsi, level);
  }

  #receiveWaiting(): void {
    while (this.#breakAfter !== 0 && this.#waiting.length > 0 && this.#receiver.length < this.#receiverDepth) {
      if (this.#breakReceived) return;
      this.#receiver.push(this.#waiting.shift()!);
      if (this.#breakAfter !== undefined) this.#breakAfter--;
    }
    if (this.#breakAfter !== 0 || this.#receiver.length > 0) return;
    // Received as a NUL, alone in the queue: LSR speaks of the character that is read next.
    this.#receiver.push(0);
    this.#breakReceived = true;
    this.#breakAfter = undefined;
  }

  #clearReceiver(): void {
    this.#receiver.clear();
    this.#breakReceived = false;
  }

  /** Reading MSR has a side effect only while delta bits are set, which is hardly ever: only then it is a call. */
  #chooseModemTrap(ports: TrapMap): void {
    const wantCall = (this.#registers[UART.msr]! & MSR.deltas) !== 0;
    if (wantCall === this.#modemTrapIsCall) return;
    this.#modemTrapIsCall = wantCall;
    ports.remove(this.#port + UART.msr);
    this.#addTrap(ports, UART.msr, 1, wantCall ? 'call' : 'shared');
  }
}
