import { TweedError } from '../../base/errors.js';

/** Turns the first Ctrl-C or SIGTERM into an aborted signal; further ones are told to wait. */
export function interruption(): { signal: AbortSignal; release: () => void } {
  const controller = new AbortController();
  const onSignal = () => {
    if (controller.signal.aborted) process.stderr.write('still taking the lab down; a moment\n');
    else
      controller.abort(
        new TweedError('INTERRUPTED', 'interrupted; nothing is left of the lab, start it again at will'),
      );
  };
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  return {
    signal: controller.signal,
    release: () => process.off('SIGINT', onSignal).off('SIGTERM', onSignal),
  };
}
