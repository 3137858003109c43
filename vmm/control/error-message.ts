/** Errors as messages and back, so that a caller on the other side of the socket sees what one on this side would. */
import { constants } from 'node:os';
import type { HostBdf } from '../../native/types.ts';
import { type MessageTypes, SCHEMA } from '../../proto/index.ts';
import { CausewayError, ERROR_CODES, type ErrorCode, isCausewayError } from '../base/errors.ts';

type ErrorMessage = MessageTypes['Error'];

const PREFIX = 'ERROR_CODE_';

/** Everything that an error says, without its cause and stack. What is no CausewayError becomes INTERNAL. */
export function errorToMessage(thrown: unknown): ErrorMessage {
  const error = isCausewayError(thrown) ? thrown : new CausewayError('INTERNAL', describe(thrown), { cause: thrown });
  const { code, message, errno, syscall, path, bdf, hint, issues = [] } = error;
  const name = `${PREFIX}${code}`;
  const known = Object.hasOwn(SCHEMA.enums.ErrorCode, name);
  return {
    code: known ? (name as ErrorMessage['code']) : 'ERROR_CODE_UNSPECIFIED',
    message,
    errno,
    syscall,
    path,
    bdf,
    hint,
    issues,
  };
}

/** The error again. A code that this version does not know becomes INTERNAL, with its message kept. */
export function errorFromMessage(message: ErrorMessage): CausewayError {
  const name = message.code.slice(PREFIX.length);
  const code = Object.hasOwn(ERROR_CODES, name) ? (name as ErrorCode) : 'INTERNAL';
  return new CausewayError(code, message.message, {
    ...(message.hint === undefined ? {} : { hint: message.hint }),
    ...(message.path === undefined ? {} : { path: message.path }),
    ...(message.bdf === undefined ? {} : { bdf: message.bdf as HostBdf }),
    ...(message.issues.length === 0 ? {} : { issues: message.issues }),
    cause: kernelErrorOf(message),
  });
}

/** errno and syscall are read from the cause: the failing call on the other side. */
function kernelErrorOf({ errno, syscall, path, message }: ErrorMessage): Error | undefined {
  if (errno === undefined) return undefined;
  const code = Object.entries(constants.errno).find(([, number]) => number === errno)?.[0] ?? 'UNKNOWN';
  const fields = { name: 'KernelError', code, errno, syscall, ...(path === undefined ? {} : { path }) };
  return Object.assign(new Error(message), fields);
}

function describe(thrown: unknown): string {
  return thrown instanceof Error ? `${thrown.name}: ${thrown.message}` : String(thrown);
}
