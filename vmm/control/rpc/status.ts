/** How a call ended, in the words of gRPC: a number, a text, and the whole error in the details. */
import { CODEC, WireError } from '../../../proto/index.ts';
import { CausewayError, ERROR_CODES, type ErrorCode, type ExitCodeName, isCausewayError } from '../../base/errors.ts';
import { errorFromMessage, errorToMessage } from '../error-message.ts';

/** https://grpc.github.io/grpc/core/md_doc_statuscodes.html, those in use here. */
export const STATUS = {
  ok: 0,
  cancelled: 1,
  invalidArgument: 3,
  deadlineExceeded: 4,
  notFound: 5,
  permissionDenied: 7,
  resourceExhausted: 8,
  failedPrecondition: 9,
  aborted: 10,
  unimplemented: 12,
  internal: 13,
  unavailable: 14,
} as const;

/** A call that ends before it reaches the service: its status, and a text. */
export class StatusError extends Error {
  override readonly name = 'StatusError';
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** Trailing metadata of a response. */
export type Trailers = Readonly<Record<string, string>>;

const ERROR_TYPE_URL = 'type.googleapis.com/causeway.v1.Error';

const STATUS_OF_EXIT: Readonly<Record<ExitCodeName, number>> = {
  ok: STATUS.internal,
  internal: STATUS.internal,
  usage: STATUS.invalidArgument,
  host: STATUS.failedPrecondition,
  config: STATUS.invalidArgument,
  guest: STATUS.aborted,
  rebootLimit: STATUS.aborted,
  device: STATUS.failedPrecondition,
  debugExit: STATUS.aborted,
  timeout: STATUS.deadlineExceeded,
  interrupted: STATUS.cancelled,
};
const STATUS_OF_CODE: Partial<Readonly<Record<ErrorCode, number>>> = {
  STATE: STATUS.failedPrecondition,
  DEVICE_NOT_FOUND: STATUS.notFound,
  KVM_PERMISSION: STATUS.permissionDenied,
  VFIO_PERMISSION: STATUS.permissionDenied,
  CONTROL_UNAVAILABLE: STATUS.unavailable,
};
const CODE_OF_STATUS: Readonly<Record<number, ErrorCode>> = {
  [STATUS.cancelled]: 'ABORTED',
  [STATUS.invalidArgument]: 'USAGE',
  [STATUS.deadlineExceeded]: 'TIMEOUT',
  [STATUS.unavailable]: 'CONTROL_UNAVAILABLE',
};

export const OK: Trailers = { 'grpc-status': '0' };

/** What the server sends for what a handler threw. */
export function trailersOf(thrown: unknown): Trailers {
  if (thrown instanceof StatusError) return trailers(thrown.status, thrown.message);
  if (thrown instanceof WireError)
    return trailers(STATUS.invalidArgument, `the request cannot be read: ${thrown.message}`);
  const error = errorToMessage(thrown);
  const code = isCausewayError(thrown) ? thrown.code : 'INTERNAL';
  const status = STATUS_OF_CODE[code] ?? STATUS_OF_EXIT[ERROR_CODES[code].exit];
  const details = CODEC.encode('Status', {
    code: status,
    message: error.message,
    details: [{ typeUrl: ERROR_TYPE_URL, value: CODEC.encode('Error', error) }],
  });
  return { ...trailers(status, error.message), 'grpc-status-details-bin': toBase64(details) };
}

/** What the client throws for trailers that it got; undefined when the call went well. */
export function errorOf(headers: Readonly<Record<string, unknown>>): CausewayError | undefined {
  const status = Number(headers['grpc-status'] ?? Number.NaN);
  if (status === STATUS.ok) return undefined;
  const details = headers['grpc-status-details-bin'];
  if (typeof details === 'string') {
    const error = detailOf(Buffer.from(details, 'base64'));
    if (error) return error;
  }
  const text = percentDecode(String(headers['grpc-message'] ?? ''));
  const hint = status === STATUS.unimplemented ? 'the VM runs another version of Causeway' : undefined;
  return new CausewayError(
    CODE_OF_STATUS[status] ?? 'INTERNAL',
    text || `the call ended with the gRPC status ${status}`,
    hint === undefined ? {} : { hint },
  );
}

function detailOf(bytes: Uint8Array): CausewayError | undefined {
  try {
    const detail = CODEC.decode('Status', bytes).details.find(({ typeUrl }) => typeUrl === ERROR_TYPE_URL);
    return detail && errorFromMessage(CODEC.decode('Error', detail.value));
  } catch (error) {
    if (error instanceof WireError) return undefined;
    throw error;
  }
}

function trailers(status: number, message: string): Trailers {
  return { 'grpc-status': String(status), 'grpc-message': percentEncode(message) };
}

/** gRPC wants no padding. */
function toBase64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64').replace(/=+$/, '');
}

/** Bytes outside of printable ASCII, and the percent sign, as %XX. */
function percentEncode(text: string): string {
  return [...new TextEncoder().encode(text)]
    .map((byte) =>
      byte >= 0x20 && byte <= 0x7e && byte !== 0x25
        ? String.fromCharCode(byte)
        : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`,
    )
    .join('');
}

function percentDecode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
