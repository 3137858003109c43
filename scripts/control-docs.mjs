/** The table of methods in docs/control-api.md, from the comments in proto/causeway/v1/control.proto. */
import { loadDefinitions } from './proto-compiler.mjs';

/** Rows of a Markdown table, one a method. */
export function methodRows(root = loadDefinitions()) {
  return root.lookupService('causeway.v1.VmService').methodsArray.map(({ name, comment }) => {
    if (!comment) throw new Error(`${name} has no comment`);
    return `| \`${name}\` | ${comment.replaceAll('\n', ' ')} |`;
  });
}
