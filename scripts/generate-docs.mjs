/** Writes docs/errors.md, docs/config-space.md and docs/conformance.md from the source. Run after a build: `npm run build && node scripts/generate-docs.mjs`. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { configSpaceDocument } from '../dist/passthrough/config-space/document.js';
import { errorsDocument } from '../dist/vmm/cli/reference.js';
import { conformanceDocument } from './conformance.mjs';
import { ROOT, say } from './host.mjs';

mkdirSync(join(ROOT, 'docs'), { recursive: true });
writeFileSync(join(ROOT, 'docs', 'errors.md'), errorsDocument());
writeFileSync(join(ROOT, 'docs', 'config-space.md'), configSpaceDocument());
writeFileSync(join(ROOT, 'docs', 'conformance.md'), conformanceDocument());
say('docs/errors.md, docs/config-space.md and docs/conformance.md written');
