/** The sessions of a device on their way from the process that ends to the one that goes on, in a vessel. */
import { messageOf } from '../../base/errors.js';
import type { Logger } from '../../base/log.js';
import { plural } from '../../base/plural.js';
import { control } from '../../linux/libc.js';
import { emptyVessel, fillVessel } from '../../linux/vessel.js';
import type { SessionControl } from './session-control.js';

/**
 * Ends all sessions, and leaves what the next process can go on with: in this order, so that two never have the same keys. The
 * forwarders have ended.
 *
 * @param vessel taken over
 */
export function leaveSessions(sessions: SessionControl, vessel: number, device: string, log: Logger): void {
  let bytes: Uint8Array | null = null;
  try {
    bytes = sessions.bequeath();
  } catch (error) {
    log.warn(`the sessions of ${device} are not left to the next daemon: ${messageOf(error)}`);
  }
  sessions.close();
  try {
    if (bytes !== null) fillVessel(vessel, bytes);
  } catch (error) {
    log.warn(`the sessions of ${device} could not be left to the next daemon: ${messageOf(error)}`);
  } finally {
    bytes?.fill(0);
    control.close(vessel);
  }
}

/**
 * Goes on with what a process left that has ended. Where it left nothing, or nothing that is understood, sessions are made anew.
 *
 * @param vessel remains the caller's
 */
export function takeSessions(sessions: SessionControl, vessel: number, device: string, log: Logger): void {
  let bytes: Uint8Array | null = null;
  try {
    bytes = emptyVessel(vessel);
    if (bytes === null) return log.info(`no sessions of ${device} were left`);
    log.info(`going on with the sessions of ${device} with ${plural(sessions.adopt(bytes), 'peer')}`);
  } catch (error) {
    log.warn(messageOf(error));
  } finally {
    bytes?.fill(0);
  }
}
