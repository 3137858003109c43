import { expect, test } from 'vitest';
import { ByteQueue } from './byte-queue.ts';
import { DEBUG_EXIT_PORT, DebugExit } from './debug-exit.ts';
import { FakeBus } from './fake-bus.ts';
import { I8042, KEYBOARD_COMMAND_PORT, KEYBOARD_DATA_PORT } from './i8042.ts';
import { POST_CODE_PORT, PostCode } from './post-code.ts';

test("Linux's i8042 driver gives up at once and its reboot code does not wait", () => {
  const bus = new FakeBus();
  let resets = 0;
  new I8042({ onReset: () => resets++ }).attach(bus);
  // i8042_flush(): more than 16 bytes in the buffer mean that there is no controller.
  let count = 0;
  while (bus.in(KEYBOARD_COMMAND_PORT) & 1 && count <= 16) {
    bus.in(KEYBOARD_DATA_PORT);
    count++;
  }
  expect(count).toBe(17);
  // kb_wait(): the input buffer is empty.
  expect(bus.in(KEYBOARD_COMMAND_PORT) & 2).toBe(0);
  for (const command of [0x20, 0x60, 0xaa, 0xff, 0xf1]) bus.out(KEYBOARD_COMMAND_PORT, command);
  bus.out(KEYBOARD_DATA_PORT, 0xfe);
  expect(resets).toBe(0);
  bus.out(KEYBOARD_COMMAND_PORT, 0xfe);
  expect(resets).toBe(1);
});

test('debug exit reports the value as written', () => {
  const bus = new FakeBus();
  const values: number[] = [];
  new DebugExit({ onExit: (value) => values.push(value) }).attach(bus);
  bus.out(DEBUG_EXIT_PORT, 0x12);
  bus.out(DEBUG_EXIT_PORT, 0x1234, 2);
  bus.out(DEBUG_EXIT_PORT, 0xdead_beef, 4);
  bus.out(DEBUG_EXIT_PORT + 1, 7);
  bus.out(DEBUG_EXIT_PORT + 2, 7, 4);
  expect(values).toEqual([0x12, 0x1234, 0xdead_beef]);
  expect(bus.in(DEBUG_EXIT_PORT, 4)).toBe(0);
});

test('the last POST code is kept, and costs no call', () => {
  const bus = new FakeBus();
  const post = new PostCode();
  post.attach(bus);
  bus.out(POST_CODE_PORT, 0x11);
  bus.out(POST_CODE_PORT, 0x22);
  expect([post.last, bus.in(POST_CODE_PORT), bus.calls]).toEqual([0x22, 0x22, 0]);
});

test('a byte queue keeps order over growth and wrap, and refuses what is too much', () => {
  const queue = new ByteQueue(200);
  for (let i = 0; i < 50; i++) queue.push(i);
  for (let i = 0; i < 30; i++) expect(queue.shift()).toBe(i);
  for (let i = 50; i < 230; i++) expect(queue.push(i)).toBe(true);
  expect(queue.push(1)).toBe(false);
  for (let i = 30; i < 230; i++) expect(queue.shift()).toBe(i);
  expect(queue.shift()).toBeUndefined();
});
