/** Stable reasons why the lab itself (not the command run in it) failed. */
export type LabErrorCode =
  | 'LAB_USAGE'
  | 'LAB_UNSUPPORTED_HOST'
  | 'LAB_FETCH_FAILED'
  | 'LAB_MODULE_MISSING'
  | 'LAB_BOOT_FAILED'
  | 'LAB_BOOT_TIMEOUT'
  | 'LAB_PANIC'
  | 'LAB_DIED'
  | 'LAB_HUNG'
  | 'LAB_EXEC_FAILED'
  | 'LAB_EXEC_TIMEOUT'
  | 'LAB_MONITOR_FAILED'
  | 'LAB_CLOSED'
  | 'LAB_ABORTED';

/** A failure of the lab: what happened (`message`), which kind (`code`), and what to do about it (`hint`). */
export class LabError extends Error {
  override readonly name = 'LabError';
  readonly code: LabErrorCode;
  readonly hint: string | undefined;

  constructor(code: LabErrorCode, message: string, options: { hint?: string | undefined; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.hint = options.hint;
  }
}
