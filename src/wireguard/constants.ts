/**
 * The constants of the WireGuard protocol, under the names of its paper ("WireGuard: Next Generation Kernel Network
 * Tunnel", sections 5 and 6) and, where the paper gives a rule without a name, of the Linux implementation.
 *
 * Times are in milliseconds.
 */

/** A sender asks for new keys after so many messages under one key. */
export const REKEY_AFTER_MESSAGES = 2 ** 31;

/**
 * Nothing is sent under a key from this counter on. The paper allows 2⁶⁴ − 2¹³ − 1; a sender may stop earlier, and 32 bits
 * are one atomic addition. A key lives for three minutes, in which 24 million packets a second would have to leave.
 */
export const REJECT_AFTER_MESSAGES = 2 ** 32 - 2 ** 13 - 1;

/** The highest counter that is accepted from a peer: what a double holds exactly. No key lives long enough to reach it. */
export const MAX_RECEIVED_COUNTER = 2 ** 53 - 1;

/** The initiator of a session asks for new keys when it sends after this time. */
export const REKEY_AFTER_TIME = 120_000;

/** Nothing is sent or accepted under a key that is older. */
export const REJECT_AFTER_TIME = 180_000;

/** A handshake is tried for so long, from the first initiation on. */
export const REKEY_ATTEMPT_TIME = 90_000;

/** An initiation without a response is repeated after this time and a random part of REKEY_TIMEOUT_JITTER. */
export const REKEY_TIMEOUT = 5_000;
export const REKEY_TIMEOUT_JITTER = 333;

/** A peer that received something and has had nothing to send for so long sends an empty message. */
export const KEEPALIVE_TIMEOUT = 10_000;

/** What is left of a handshake is forgotten after this time. Keys are forgotten as soon as they are not accepted any more. */
export const ZERO_KEYS_AFTER_TIME = 3 * REJECT_AFTER_TIME;

/** A responder changes the secret of its cookies after this time. */
export const COOKIE_SECRET_MAX_AGE = 120_000;

/** An initiator stops using a cookie this much earlier, so that it is not out of date when it arrives. */
export const COOKIE_SECRET_LATENCY = 5_000;

/** Initiations of one peer that come faster than this are not answered. */
export const INITIATION_INTERVAL = 20;

/** Handshake messages that a device takes in a second before it asks for cookies, and for how long it then does. */
export const UNDER_LOAD_MESSAGES_PER_SECOND = 1_000;
export const UNDER_LOAD_TIME = 1_000;

/** Handshake messages that one address may send under load, a second and at once. */
export const HANDSHAKES_PER_ADDRESS_PER_SECOND = 20;
export const HANDSHAKES_PER_ADDRESS_BURST = 5;

/** The plaintext is padded with zeros to a multiple of this, but not past the device's MTU. */
export const PADDING_MULTIPLE = 16;
