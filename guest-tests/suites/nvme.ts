/** An NVMe drive under Linux: what is written is read again, also when the controller is reset meanwhile. */
import { isClass, type LinuxGuest, test } from '../harness/index.ts';

const DISK = '/dev/nvme0n1';
const CONTROLLER = '/sys/class/nvme/nvme0';
const MIB_WRITTEN = 4;
const BYTES_WRITTEN: number = MIB_WRITTEN * 2 ** 20;

test('identify, write, read, verify, reset in flight', {
  needs: isClass('nvme'),
  timeoutMs: 240_000,
}, async (fixtures) => {
  const { step, log, skip, measure } = fixtures;
  const guest = await fixtures.boot({ modules: ['nvme'], cpus: 2, memory: '128M' });
  await guest.must(`for i in $(seq 100); do [ -b ${DISK} ] && break; sleep 0.2; done; [ -b ${DISK} ]`);
  await step('identify', async () => {
    const [model, state, bytes] = (
      await guest.must(`cat ${CONTROLLER}/model ${CONTROLLER}/state; cat /sys/block/nvme0n1/size`)
    ).split('\n');
    if (state !== 'live') throw new Error(`the controller is ${state}`);
    log(`${model?.trim()}, ${Number(bytes) * 512} bytes`);
  });
  if (!(await isBlank(guest))) skip(`${DISK} is not blank: this test writes to it`);
  await guest.must(`head -c ${BYTES_WRITTEN} /dev/urandom > /tmp/wanted`, { timeoutMs: 120_000 });
  const wanted = await guest.must('sha256sum < /tmp/wanted', { timeoutMs: 60_000 });
  await step('write, read, verify', async () => {
    const wroteMs = await timed(() => write(guest));
    measure('write', MIB_WRITTEN / (wroteMs / 1000), { unit: 'MiB/s', better: 'higher' });
    await verify(guest, wanted);
  });
  await step('the controller is reset while it writes', async () => {
    await guest.must(`dd if=/tmp/wanted of=${DISK} bs=64k oflag=direct 2> /tmp/dd & echo $! > /tmp/pid`);
    for (let round = 0; round < 3; round++) await guest.must(`echo 1 > ${CONTROLLER}/reset_controller`);
    await guest.must('while kill -0 $(cat /tmp/pid) 2> /dev/null; do sleep 0.2; done; cat /tmp/dd', {
      timeoutMs: 120_000,
    });
    const state = await guest.must(
      `for i in $(seq 100); do grep -q live ${CONTROLLER}/state && break; sleep 0.2; done; cat ${CONTROLLER}/state`,
    );
    if (state !== 'live') throw new Error(`the controller is ${state}`);
    await write(guest);
    await verify(guest, wanted);
  });
  // Leave the drive as it was found.
  await guest.must(`dd if=/dev/zero of=${DISK} bs=1M count=${MIB_WRITTEN} conv=fsync 2> /dev/null`, {
    timeoutMs: 120_000,
  });
});

/** Zeros where a partition table, a file system's or a RAID's label would be, and where this test writes. */
async function isBlank(guest: LinuxGuest): Promise<boolean> {
  const sectors = Number(await guest.must('cat /sys/block/nvme0n1/size'));
  const last = Math.max(0, Math.floor(sectors / 2048) - 1);
  const check = (skipMib: number, mib: number): string =>
    `dd if=${DISK} bs=1M skip=${skipMib} count=${mib} 2> /dev/null | tr -d '\\000' | head -c 1 | wc -c`;
  const found = await guest.must(`${check(0, MIB_WRITTEN)}; ${check(last, 1)}`, { timeoutMs: 120_000 });
  return found.split('\n').every((count) => count.trim() === '0');
}

function write(guest: LinuxGuest): Promise<string> {
  return guest.must(`dd if=/tmp/wanted of=${DISK} bs=1M conv=fsync 2>&1`, { timeoutMs: 120_000 });
}

async function verify(guest: LinuxGuest, wanted: string): Promise<void> {
  // Not out of the page cache.
  await guest.must('echo 3 > /proc/sys/vm/drop_caches');
  const got = await guest.must(`head -c ${BYTES_WRITTEN} ${DISK} | sha256sum`, { timeoutMs: 120_000 });
  if (got !== wanted) throw new Error(`read ${got}, wrote ${wanted}`);
}

async function timed(body: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await body();
  return performance.now() - began;
}
