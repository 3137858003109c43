import { beforeEach, expect, it } from 'vitest';
import type { Fd, Gsi, GsiRoute, Irqfd, Kvm } from '../../native/types.ts';
import { IrqRouter } from './irq-router.ts';

const calls: string[] = [];
const kvm = {
  vmSetGsiRouting: (_vm: Fd, routes: readonly GsiRoute[]) =>
    calls.push(`routes ${routes.filter((r) => r.kind === 'msi').length}`),
  vmAssignIrqfd: (_vm: Fd, irqfd: Irqfd) => calls.push(`assign ${irqfd.fd}:${irqfd.gsi}`),
  vmDeassignIrqfd: (_vm: Fd, irqfd: Irqfd) => calls.push(`deassign ${irqfd.fd}:${irqfd.gsi}`),
} as unknown as Kvm;
const message = { addressLo: 0xfee0_0000, addressHi: 0, data: 0x41 };
let router: IrqRouter;

beforeEach(() => {
  calls.length = 0;
  router = new IrqRouter(kvm, 3 as Fd);
  router.commit();
});

// Enforces P21.
it('commits a route before the irqfd that uses it, and only when something changed', () => {
  const gsi = router.allocate();
  router.setMessage(gsi, message);
  router.attach({ fd: 10 as Fd, gsi });
  router.setMessage(gsi, { ...message });
  router.commit();
  expect(calls).toEqual(['routes 0', 'routes 1', `assign 10:${gsi}`]);
});

// Enforces P21.
it('drops the route after the irqfd', () => {
  const gsi = router.allocate();
  router.setMessage(gsi, message);
  router.attach({ fd: 10 as Fd, gsi });
  router.detach(10 as Fd);
  router.detach(10 as Fd);
  router.release(gsi);
  router.commit();
  expect(calls.slice(-2)).toEqual([`deassign 10:${gsi}`, 'routes 0']);
});

it('keeps the legacy pins and hands out GSIs above them, each once', () => {
  const table = router.table();
  expect(table.filter((r) => r.kind === 'irqchip' && r.chip === 2)).toHaveLength(23);
  expect(table).toContainEqual({ kind: 'irqchip', gsi: 0 as Gsi, chip: 2, pin: 2 });
  const first = router.allocate();
  const second = router.allocate();
  expect([first, second]).toEqual([24, 25]);
  router.release(first);
  expect(router.allocate()).toBe(24);
});
