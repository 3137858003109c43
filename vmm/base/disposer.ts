/** Undo in reverse order, collecting errors: what AsyncDisposableStack is, on Node versions that lack it. */

export type Undo = () => void | Promise<void>;

export class Disposer implements AsyncDisposable {
  readonly #undos: Undo[] = [];

  /** Registers what undoes the step just done. */
  defer(undo: Undo): void {
    this.#undos.push(undo);
  }

  /** Runs every undo, last first, even when some fail. A second call finds nothing to do. @throws AggregateError */
  async dispose(): Promise<void> {
    const errors: unknown[] = [];
    for (let undo = this.#undos.pop(); undo; undo = this.#undos.pop()) {
      try {
        await undo();
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length === 1) throw errors[0];
    if (errors.length > 1) throw new AggregateError(errors, `${errors.length} steps could not be undone`);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }
}
