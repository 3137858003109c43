/** A marker: this test enforces that requirement. */
export interface Mark {
  readonly id: string;
  readonly path: string;
  readonly line: number;
  readonly name: string;
}

export interface Markers {
  readonly marks: readonly Mark[];
  readonly faults: readonly string[];
}

export interface Requirements {
  /** Title of each section, by its letter. */
  readonly sections: Readonly<Record<string, string>>;
  /** Text of each requirement, by its number. */
  readonly rows: Readonly<Record<string, string>>;
  /** What is not enforced yet, and why. */
  readonly open: Readonly<Record<string, string>>;
  /** What the lab has no device for. */
  readonly noSilicon: Readonly<Record<string, string>>;
}

export function loadRequirements(): Requirements;
export function findMarkers(files?: readonly { readonly path: string; readonly text: string }[]): Markers;
export function conformanceFaults(requirements: Requirements, markers: Markers): string[];
export function conformanceDocument(requirements?: Requirements, markers?: Markers): string;
