/** The file that {@link buildAddon} makes. */
export const addonPath: string;

/**
 * Compiles and links what changed; returns the path of the addon.
 * @throws Error that says what to install when the compiler or a header is missing
 */
export function buildAddon(options?: { force?: boolean; log?: (line: string) => void }): Promise<string>;
