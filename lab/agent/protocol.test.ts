import fc from 'fast-check';
import { expect, test } from 'vitest';
import { encodeFrame, FrameReader } from './protocol.ts';

test('frames survive being cut anywhere', () => {
  const frame = fc.record({ kind: fc.nat(255), id: fc.nat(0xffffffff), payload: fc.uint8Array({ maxLength: 50 }) });
  fc.assert(
    fc.property(fc.array(frame), fc.integer({ min: 1, max: 40 }), (frames, step) => {
      const bytes = Buffer.concat(frames.map(({ kind, id, payload }) => encodeFrame(kind, id, payload)));
      const reader = new FrameReader();
      const seen = [];
      for (let at = 0; at < bytes.length; at += step) seen.push(...reader.push(bytes.subarray(at, at + step)));
      expect(seen.map(({ kind, id, payload }) => ({ kind, id, payload: new Uint8Array(payload) }))).toEqual(frames);
    }),
  );
});
