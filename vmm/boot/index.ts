/** Loading a guest: examine the files, prepare the kernel once, load it at each boot. */
export { checkBootFiles } from './check.ts';
export type { BootMode } from './cpu-state.ts';
export { defaultCacheDir } from './kernel-cache.ts';
export { type BootProtocol, type KernelImage, type PrepareOptions, prepareKernel } from './kernel-image.ts';
export { type BootInput, type BootState, loadGuest } from './load.ts';
