/** Function 00:00.0: the host bridge. Guests look for one before they trust a way into config space. */
import { writeLe } from '../base/bits.ts';
import type { ConfigWindow } from './config-window.ts';
import type { ConfigTarget } from './pci-bus.ts';

/** Red Hat's generic PCIe host bridge: no driver binds, no chipset quirk applies. */
const VENDOR_ID = 0x1b36;
const DEVICE_ID = 0x0008;
const CLASS_HOST_BRIDGE = 0x0600_0000;

export class HostBridge implements ConfigTarget {
  readonly window: ConfigWindow;

  constructor(window: ConfigWindow) {
    this.window = window;
    writeLe(window.image, 0, 2, VENDOR_ID);
    writeLe(window.image, 2, 2, DEVICE_ID);
    writeLe(window.image, 8, 4, CLASS_HOST_BRIDGE);
  }

  writeConfig(): void {}
}
