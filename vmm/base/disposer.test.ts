import { expect, test } from 'vitest';
import { Disposer } from './disposer.ts';

test('undoes in reverse order, once', async () => {
  const order: number[] = [];
  const disposer = new Disposer();
  for (const step of [1, 2, 3]) disposer.defer(() => void order.push(step));
  await disposer.dispose();
  await disposer.dispose();
  expect(order).toEqual([3, 2, 1]);
});

test('a failing step does not keep the others from being undone', async () => {
  const order: number[] = [];
  const disposer = new Disposer();
  disposer.defer(() => void order.push(1));
  disposer.defer(() => {
    throw new Error('two');
  });
  disposer.defer(async () => {
    throw new Error('three');
  });
  const failure: unknown = await disposer.dispose().catch((error: unknown) => error);
  expect(order).toEqual([1]);
  expect((failure as AggregateError).errors.map(String)).toEqual(['Error: three', 'Error: two']);
});

test('a single failure is thrown as it is', async () => {
  const disposer = new Disposer();
  const failure = new Error('alone');
  disposer.defer(() => Promise.reject(failure));
  await expect(disposer.dispose()).rejects.toBe(failure);
});
