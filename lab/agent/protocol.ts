/** The frames between the lab's owner and the agent inside it: length, kind, stream number, payload. */

/** Kinds of frame, by direction: the first half goes to the agent, the second comes from it. */
export const frameKinds = {
  spawn: 1,
  stdin: 2,
  stdinEnd: 3,
  kill: 4,
  powerOff: 5,
  ready: 16,
  stdout: 17,
  stderr: 18,
  exit: 19,
  failed: 20,
} as const;

/** One frame. `id` numbers the command that it belongs to; 0 is the agent itself. */
export interface Frame {
  readonly kind: number;
  readonly id: number;
  readonly payload: Buffer;
}

/** Payload of `spawn`, as JSON. */
export interface SpawnRequest {
  readonly argv: readonly string[];
  readonly cwd?: string;
  readonly env: Readonly<Record<string, string>>;
}

/** Payload of `exit`, as JSON. */
export interface ExitReport {
  readonly code: number | null;
  readonly signal: string | null;
}

/** Payload of `ready`, as JSON. */
export interface ReadyReport {
  /** For each device in order, the functions behind its port. */
  readonly devices: readonly (readonly string[])[];
  readonly kernel: string;
}

const headerBytes = 9;

/** A frame as bytes. */
export function encodeFrame(kind: number, id: number, payload: Uint8Array | string = ''): Buffer {
  const body = Buffer.from(payload as string);
  const frame = Buffer.allocUnsafe(headerBytes + body.length);
  frame.writeUInt32LE(body.length, 0);
  frame.writeUInt8(kind, 4);
  frame.writeUInt32LE(id, 5);
  frame.set(body, headerBytes);
  return frame;
}

/** Cuts a byte stream into frames; `push` may be given any pieces. */
export class FrameReader {
  #pending: Buffer = Buffer.alloc(0);

  /** Take the next bytes; gives the frames that they complete. */
  push(chunk: Buffer): Frame[] {
    this.#pending = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
    const frames: Frame[] = [];
    for (;;) {
      if (this.#pending.length < headerBytes) return frames;
      const end = headerBytes + this.#pending.readUInt32LE(0);
      if (this.#pending.length < end) return frames;
      const payload = this.#pending.subarray(headerBytes, end);
      frames.push({ kind: this.#pending.readUInt8(4), id: this.#pending.readUInt32LE(5), payload });
      this.#pending = this.#pending.subarray(end);
    }
  }
}
