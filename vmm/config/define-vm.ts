/** What a configuration file calls, for its types. */
import type { VmConfig } from './model.ts';

/** What a configuration function is given. */
export interface ConfigContext {
  /** What is known of the host, when the caller has looked. */
  readonly host?: unknown;
}

export type VmConfigFunction = (context: ConfigContext) => VmConfig | Promise<VmConfig>;

/**
 * Returns its argument as it is: it only gives an editor the types.
 * @example
 * export default defineVm({ kernel: 'vmlinuz', memory: '2GiB', devices: ['0000:01:00.0'] });
 */
export function defineVm<T extends VmConfig | VmConfigFunction>(config: T): T {
  return config;
}
