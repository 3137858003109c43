/** Writes proto/generated from proto/**.proto: `node scripts/generate-proto.mjs`. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { say } from './host.mjs';
import { compile, GENERATED } from './proto-compiler.mjs';

mkdirSync(dirname(GENERATED), { recursive: true });
writeFileSync(GENERATED, compile());
say(`${GENERATED} written`);
