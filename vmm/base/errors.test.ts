import { expect, test } from 'vitest';
import { CausewayError, ERROR_CODES, EXIT_CODE, hasErrno, isCausewayError, isKernelError } from './errors.ts';

function kernelError(code: string, errno: number): Error {
  return Object.assign(new Error(`${code}: open`), {
    name: 'KernelError',
    code,
    errno,
    syscall: 'open',
    path: '/dev/kvm',
  });
}

test('an error takes errno, call and path from the kernel error that caused it', () => {
  const cause = kernelError('EACCES', 13);
  const error = new CausewayError('KVM_PERMISSION', '/dev/kvm may not be opened', {
    cause,
    hint: 'join the group kvm',
  });
  expect(error.exitCode).toBe(EXIT_CODE.host);
  expect(JSON.parse(JSON.stringify(error))).toEqual({
    code: 'KVM_PERMISSION',
    message: '/dev/kvm may not be opened',
    hint: 'join the group kvm',
    path: '/dev/kvm',
    errno: 13,
    syscall: 'open',
  });
  expect(isCausewayError(error)).toBe(true);
  expect(isCausewayError(cause)).toBe(false);
  expect([isKernelError(cause), hasErrno(cause, 'EPERM', 'EACCES'), hasErrno(cause, 'EPERM')]).toEqual([
    true,
    true,
    false,
  ]);
});

test('the brand survives a second copy of the class', () => {
  const foreign = Object.defineProperty(new Error('x'), Symbol.for('causeway.error'), { value: true });
  expect(isCausewayError(foreign)).toBe(true);
});

test('every code leads to an exit code below 64 or one of the two customary ones', () => {
  for (const { exit, meaning } of Object.values(ERROR_CODES)) {
    const code = EXIT_CODE[exit];
    expect(code < 64 || code === 124 || code === 130).toBe(true);
    expect(meaning).toMatch(/\.$/);
  }
  expect(new Set(Object.values(EXIT_CODE)).size).toBe(Object.keys(EXIT_CODE).length);
});
