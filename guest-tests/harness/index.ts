/**
 * `causeway/test`: what a test file imports. Small on purpose: a file that another loader loads gets its own copy.
 * @module
 */

export type { DeviceFacts, DeviceFixture, Fixtures, MeasureOptions } from './fixtures.ts';
export type { ForeignReport } from './foreign/parse.ts';
export type { BootOptions, CommandResult, LinuxGuest, PayloadOptions, PayloadOutcome } from './guests.ts';
export { hasCapability, hasReset, isClass, isDevice, oneOf } from './needs.ts';
export { type Need, type TestFunction, type TestOptions, type Tolerance, test } from './registry.ts';
