/** The guests that tests really get. Loads the machine only when a guest is wanted. */
import type { GuestMaker } from './guests.ts';

export function realGuests(): GuestMaker {
  return {
    bootLinux: async (options) => (await import('../guest/index.ts')).bootLinux(options),
    runPayload: async (options) => (await import('../guest/index.ts')).runPayload(options),
  };
}
