import { type FSWatcher, watch } from 'node:fs';
import { messageOf } from '../../base/errors.js';
import type { Logger } from '../../base/log.js';

export interface DirectoryWatchOptions {
  readonly directory: string;
  readonly rescanMs: number;
  readonly signal: AbortSignal;
  readonly onEstablished: () => void;
  /** Looks for changes; returns when the next one is due by itself (milliseconds since the epoch), or null. */
  readonly look: () => Promise<number | null>;
  readonly log: Logger;
}

/** Notifications that come in a burst are answered with one look. */
const GATHER_MS = 10;

/**
 * Calls `look` at once, after every notified change, when it said so itself, and every `rescanMs` in case a notification is
 * lost. Never two looks at a time. Ends when the signal is aborted; rejects with whatever `look` throws.
 */
export async function watchDirectory(options: DirectoryWatchOptions): Promise<void> {
  const { directory, rescanMs, signal, look, log } = options;
  if (signal.aborted) return;
  let wake = () => {};
  let noticed = false;
  const notice = () => {
    noticed = true;
    wake();
  };
  let watcher: FSWatcher | null = null;
  try {
    watcher = watch(directory, notice);
    watcher.on('error', notice);
  } catch (error) {
    log.warn({ directory, reason: messageOf(error) }, `no change notification; looking every ${rescanMs} ms instead`);
  }
  signal.addEventListener('abort', notice);
  const pause = (milliseconds: number, interruptible: boolean) =>
    new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      wake = () => {
        if (!interruptible && !signal.aborted) return;
        clearTimeout(timer);
        resolve();
      };
      if (noticed && interruptible) wake();
    });
  try {
    for (let first = true; !signal.aborted; first = false) {
      noticed = false;
      const due = await look();
      if (first) options.onEstablished();
      const wait = due === null ? rescanMs : Math.min(rescanMs, Math.max(0, due - Date.now()) + 1);
      await pause(wait, true);
      if (noticed && !signal.aborted) await pause(GATHER_MS, false);
    }
  } finally {
    watcher?.close();
    signal.removeEventListener('abort', notice);
  }
}
