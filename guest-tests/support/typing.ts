/** Input for a program in the lab that is to be typed when the test says so. */

/** A promise that is resolved from outside. */
export class Gate {
  open: () => void = () => {};
  readonly opened: Promise<void> = new Promise((resolve) => {
    this.open = resolve;
  });
}

/** One key, once the gate is open. */
export async function* typeLater(key: Gate): AsyncGenerator<string> {
  await key.opened;
  yield 'x';
}
