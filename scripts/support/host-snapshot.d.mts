export type HostSnapshot = Record<string, string[]>;
export function takeSnapshot(): HostSnapshot;
export function compareSnapshots(before: HostSnapshot, after: HostSnapshot): string[];
export function listProcesses(project: string): { pid: number; command: string }[];
