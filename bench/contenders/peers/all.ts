import { fastd } from './fastd.js';
import { nebula } from './nebula.js';
import { openvpn } from './openvpn.js';
import { tinc } from './tinc.js';
import { vtun } from './vtun.js';
import { wireguardGo } from './wireguard-go.js';

/** What a user might pick instead. */
export const peers = [wireguardGo, fastd, tinc, vtun, openvpn, nebula];

/** Where Debian has them. */
export const peerPackages = ['wireguard-go', 'wireguard-tools', 'fastd', 'tinc', 'vtun', 'openvpn', 'nebula'];
