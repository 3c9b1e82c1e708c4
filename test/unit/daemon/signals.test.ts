import { afterEach, describe, expect, it, vi } from 'vitest';
import { silentLogger } from '../../../src/base/log.js';
import { listenToSignals } from '../../../src/daemon/signals.js';
import type { DaemonStatus } from '../../../src/observe/status.js';

const log = silentLogger();
let letGo = () => {};

afterEach(() => {
  letGo();
  vi.restoreAllMocks();
});

function listen(): AbortSignal {
  const listening = listenToSignals(() => ({ schema: 1 }) as DaemonStatus, log);
  letGo = listening.letGo;
  return listening.stop;
}

describe('signals', () => {
  it.each([
    ['SIGTERM', 143],
    ['SIGINT', 130],
  ] as const)('%s asks to stop, and a second one ends at once', (signal, status) => {
    const exit = vi.spyOn(process, 'exit').mockImplementation((() => {}) as never);
    const stop = listen();
    process.kill(process.pid, signal);
    return vi
      .waitFor(() => expect(stop.aborted).toBe(true))
      .then(() => {
        expect(exit).not.toHaveBeenCalled();
        process.kill(process.pid, signal);
        return vi.waitFor(() => expect(exit).toHaveBeenCalledWith(status));
      });
  });

  it('SIGUSR1 writes the status to the log, SIGHUP changes nothing', async () => {
    const info = vi.spyOn(log, 'info');
    const stop = listen();
    process.kill(process.pid, 'SIGUSR1');
    await vi.waitFor(() => expect(info).toHaveBeenCalledWith({ status: { schema: 1 } }, 'status'));
    process.kill(process.pid, 'SIGHUP');
    await vi.waitFor(() => expect(info).toHaveBeenCalledWith(expect.stringContaining('SIGHUP')));
    expect(stop.aborted).toBe(false);
  });

  it('are let go of', () => {
    const before = process.listenerCount('SIGTERM');
    listen();
    letGo();
    expect(process.listenerCount('SIGTERM')).toBe(before);
  });
});
