import { describe, expect, it } from 'vitest';
import { compare, spread } from './statistics.ts';

describe('spread', () => {
  it('takes the middle of an odd number, and between the middle two of an even one', () => {
    expect(spread([9, 1, 2])).toEqual({ min: 1, median: 2, max: 9 });
    expect(spread([4, 1, 2, 100])).toEqual({ min: 1, median: 3, max: 100 });
    expect(spread([5])).toEqual({ min: 5, median: 5, max: 5 });
  });

  it('sorts as numbers and leaves its input alone', () => {
    const values = [100, 20, 3];
    expect(spread(values).median).toBe(20);
    expect(values).toEqual([100, 20, 3]);
  });

  it('refuses to describe nothing', () => {
    expect(() => spread([])).toThrow(RangeError);
  });
});

describe('compare', () => {
  it('divides pair by pair', () => {
    // The whole second pair was slow: the ratios do not show it, as the quotient of the worst would.
    const { ratio } = compare([1, 10, 2], [2, 20, 4]);
    expect(ratio).toEqual({ min: 0.5, median: 0.5, max: 0.5 });
  });

  it('is not the quotient of the medians', () => {
    const { causeway, qemu, ratio } = compare([1, 2, 9], [10, 2, 3]);
    expect(causeway.median / qemu.median).toBeCloseTo(0.667, 2);
    expect(ratio.median).toBe(1);
  });

  it('wants pairs', () => {
    expect(() => compare([1], [1, 2])).toThrow('1 measurements against 2');
  });
});
