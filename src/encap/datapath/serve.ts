import type { Direction } from '../forwarding/control-block.js';
import type { ForwarderContext } from './context.js';
import { type Forwarder, ForwarderLoop } from './loop.js';
import { socketOutlet } from './outlet.js';
import { receivers } from './rx.js';
import { TxForwarder } from './tx.js';

/**
 * Serves these directions until it is asked to stop or one of them cannot go on, which the control block tells then.
 *
 * @param thread which of the threads it is, from 0
 * @param wake an eventfd, see `ForwarderLoop`
 * @param onBegin called when everything is made, before the first wait
 */
export function serve(
  context: ForwarderContext,
  directions: readonly Direction[],
  thread: number,
  wake: number,
  onBegin: () => void = () => {},
): void {
  const loop = new ForwarderLoop(context, thread, wake);
  const forwarders = directions.flatMap((direction): Forwarder[] =>
    direction === 'tx' ? [new TxForwarder(context, socketOutlet(context, loop))] : receivers(context),
  );
  onBegin();
  loop.serve(forwarders);
}
