export function staleBuild(which?: RegExp): string | null;
