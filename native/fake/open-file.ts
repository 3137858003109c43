/** What an fd of the fake kernel refers to. */

/** An open file description: lives until the last fd, mapping or kernel object that holds it lets go. */
export abstract class OpenFile {
  /** For leak reports, for example `vfio-device 0000:01:00.0`. */
  abstract readonly label: string;
  private references = 1;

  hold(): void {
    this.references++;
  }

  drop(): void {
    this.references--;
    if (this.references === 0) this.released();
  }

  get isReleased(): boolean {
    return this.references <= 0;
  }

  /** Returns bytes read or -errno. */
  pread(_offset: number, _into: Uint8Array): number {
    return -22;
  }

  /** Returns bytes written or -errno. */
  pwrite(_offset: number, _from: Uint8Array): number {
    return -22;
  }

  /** The last reference is gone. */
  protected released(): void {}
}

/** What takes an eventfd's count the moment it is signalled: an irqfd, or VFIO's unmask. */
export type EventConsumer = (count: number) => void;

/** eventfd(2). */
export class FakeEventfd extends OpenFile {
  readonly label = 'eventfd';
  count = 0;
  /** KVM allows one irqfd per eventfd. */
  irqfd: EventConsumer | undefined;
  /** VFIO_IRQ_SET_ACTION_UNMASK with an eventfd. */
  unmask: EventConsumer | undefined;
  /** Called when the count became positive and nobody in the kernel took it. */
  onReadable: (() => void) | undefined;

  signal(count = 1): void {
    this.count += count;
    this.settle();
  }

  /** Gives a count that is there already to a consumer that has just come, as the kernel does at assign time. */
  settle(): void {
    if (this.count === 0) return;
    const consumer = this.irqfd ?? this.unmask;
    if (consumer !== undefined) consumer(this.take());
    else this.onReadable?.();
  }

  take(): number {
    const { count } = this;
    this.count = 0;
    return count;
  }
}

/** An ordinary file of the fake's tree. */
export class FakeHostFile extends OpenFile {
  readonly label: string;
  private readonly content: () => Uint8Array;

  constructor(path: string, content: () => Uint8Array) {
    super();
    this.label = path;
    this.content = content;
  }

  override pread(offset: number, into: Uint8Array): number {
    const part = this.content().subarray(offset, offset + into.length);
    into.set(part);
    return part.length;
  }
}
