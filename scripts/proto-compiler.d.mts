/** Types of proto-compiler.mjs for the tests. */

export declare const GENERATED: string;
export declare function loadDefinitions(): unknown;
export declare function compile(root?: unknown): string;
