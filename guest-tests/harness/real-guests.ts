/** The guests that tests really get. Loads the machine only when a guest is wanted. */
import { CausewayError } from '../../vmm/base/errors.ts';
import type { GuestMaker } from './guests.ts';

export function realGuests(): GuestMaker {
  return {
    bootLinux: () => Promise.reject(new CausewayError('STATE', 'Linux guests come with guest-tests/guest')),
    runPayload: async ({ payload, args, devices = [], describe, cpus = 1, rebootLimit = 0, timeoutMs, onConsole }) => {
      const { runPayload } = await import('../bare/run.ts');
      const { argsFromSysfs } = await import('../bare/sysfs-args.ts');
      const kernel = payload.includes('/')
        ? payload
        : (await (await import('../bare/build.ts')).buildPayloads()).get(payload);
      if (kernel === undefined) throw new CausewayError('USAGE', `there is no payload "${payload}"`);
      const [first] = devices;
      const bdf = typeof first === 'object' ? first.bdf : first;
      const words = typeof args === 'string' ? args.split(/\s+/).filter(Boolean) : [];
      const given = typeof args === 'object' ? args : Object.fromEntries(words.map((word) => word.split('=')));
      return runPayload({
        kernel,
        args: { ...(describe && bdf !== undefined ? argsFromSysfs(bdf) : {}), ...given },
        vm: { devices, cpus, rebootLimit },
        ...(timeoutMs === undefined ? {} : { timeoutMs }),
        ...(onConsole ? { onConsole } : {}),
      });
    },
  };
}
