/** Types of control-docs.mjs for the tests. */

export declare function methodRows(root?: unknown): string[];
