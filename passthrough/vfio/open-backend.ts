/** Opens what devices go through: the container or an iommufd. */
import type { Native } from '../../native/types.ts';
import { isCausewayError } from '../../vmm/base/errors.ts';
import { type BackendChoice, type BackendWish, chooseBackend } from '../host/backend-choice.ts';
import { LegacyContainer } from './container.ts';
import type { DmaBackend, GroupedDevice } from './dma-backend.ts';
import { IommufdBackend, type OpenIommufd, openIommufd } from './iommufd.ts';

/**
 * Opens the one that is wanted; where the choice is free, an iommufd that does not work is no reason to fail.
 * @throws CausewayError, with everything undone
 */
export function openBackend(
  native: Native,
  devices: readonly GroupedDevice[],
  wish: BackendWish,
  warn: (message: string) => void,
): { readonly backend: DmaBackend; readonly choice: BackendChoice } {
  const choice = chooseBackend(native, devices, wish);
  if (choice.backend === 'container') {
    return { backend: new LegacyContainer(native, devices, warn, wish.given), choice };
  }
  let iommufd: OpenIommufd;
  try {
    iommufd = openIommufd(native, wish.given.iommufd);
  } catch (error) {
    const isBound =
      wish.mode !== 'auto' ||
      wish.given.iommufd !== undefined ||
      devices.some(({ deviceFd }) => deviceFd !== undefined);
    if (isBound || !isCausewayError(error)) throw error;
    return {
      backend: new LegacyContainer(native, devices, warn, wish.given),
      choice: { backend: 'container', why: `iommufd does not work here: ${error.message}` },
    };
  }
  return { backend: new IommufdBackend(native, devices, warn, iommufd), choice };
}
