import { readFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { checkBackendConfig } from '../../backend/select.js';
import { messageOf } from '../../base/errors.js';
import { silentLogger } from '../../base/log.js';
import { redactUrls } from '../../base/redact.js';
import type { DaemonOptions } from '../../daemon/options.js';
import { checkNetworkConfig, type NetworkConfig } from '../../subnet/network-config/config.js';
import { openRegistry } from '../../subnet/open-registry.js';
import { type Checks, fail, type Judge, ok, warn } from './finding.js';

/** What the registry and its server say. */
export interface RegistryFacts {
  /** Without passwords. */
  readonly endpoints: string;
  /** Empty when it answered. */
  readonly error: string;
  readonly milliseconds: number;
  /** Null when there is none, or none was read. */
  readonly config: NetworkConfig | null;
  readonly configProblem: string;
  readonly leases: number;
  readonly unreadable: readonly string[];
  /** The server's clock minus ours, in milliseconds; null when it was not told. */
  readonly clockAheadMs: number | null;
}

/** The clocks may be this far apart: HTTP tells whole seconds, and the answer takes its time. */
const CLOCK_TOLERANCE_MS = 5000;

const reachable: Judge<RegistryFacts> = ({ endpoints, error, milliseconds }) =>
  error === ''
    ? ok(`the registry ${endpoints} answers, in ${milliseconds} ms`)
    : fail(
        `the registry ${endpoints} does not answer: ${error}`,
        'systemctl status etcd (on its host), or correct -etcd-endpoints',
      );

const configuration: Judge<RegistryFacts> = ({ error, config, configProblem }) => {
  if (error !== '') return null;
  if (config === null)
    return fail(configProblem, `tweed network set '{"Network":"10.5.0.0/16","Backend":{"Type":"udp"}}'`);
  try {
    checkBackendConfig(config);
  } catch (error) {
    return fail(messageOf(error), 'tweed network set (with the Backend corrected)');
  }
  return ok(`the network configuration is right, backend ${config.backend.type}`);
};

const leases: Judge<RegistryFacts> = ({ error, leases: count, unreadable }) => {
  if (error !== '') return null;
  if (unreadable.length === 0) return ok(`${count} leases, all readable`);
  return warn(
    `keys among the leases that cannot be read: ${unreadable.join(', ')}`,
    'etcdctl del <prefix>/subnets/<key>',
  );
};

/** Lease times are measured by the server alone; certificates and the comparing of logs are what need right clocks. */
const clock: Judge<RegistryFacts> = ({ error, clockAheadMs }) => {
  if (error !== '' || clockAheadMs === null) return null;
  const seconds = Math.round(Math.abs(clockAheadMs) / 1000);
  return Math.abs(clockAheadMs) <= CLOCK_TOLERANCE_MS
    ? ok("this host's clock agrees with etcd's")
    : warn(
        `this host's clock is ${seconds} s ${clockAheadMs > 0 ? 'behind' : 'ahead of'} etcd's`,
        'timedatectl set-ntp true',
      );
};

export const registryChecks: Checks<RegistryFacts> = {
  registry: reachable,
  'network-config': configuration,
  leases,
  clock,
};

/** Asks the registry. Nothing is changed, nothing is judged. */
export async function gatherRegistryFacts(options: DaemonOptions['registry']): Promise<RegistryFacts> {
  const facts = {
    endpoints: options.endpoints.map(redactUrls).join(', '),
    config: null,
    configProblem: '',
    leases: 0,
    unreadable: [],
    clockAheadMs: await clockOf(options),
  };
  const start = performance.now();
  const took = () => Math.round(performance.now() - start);
  try {
    const registry = await openRegistry(options, silentLogger());
    try {
      const { json } = await registry.getConfig();
      const milliseconds = took();
      const { leases: all, malformed } = await registry.list();
      const unreadable = malformed.map(({ key }) => key);
      return { ...facts, ...judgeConfig(json), error: '', milliseconds, leases: all.length, unreadable };
    } finally {
      await registry.close();
    }
  } catch (error) {
    return { ...facts, error: messageOf(error), milliseconds: took() };
  }
}

function judgeConfig(json: string | null): Pick<RegistryFacts, 'config' | 'configProblem'> {
  if (json === null) return { config: null, configProblem: 'there is no network configuration' };
  try {
    return { config: checkNetworkConfig(json).config, configProblem: '' };
  } catch (error) {
    return { config: null, configProblem: messageOf(error) };
  }
}

/** etcd's HTTP side says the time in every answer. */
function clockOf({ endpoints, caFile, certFile, keyFile }: DaemonOptions['registry']): Promise<number | null> {
  const [endpoint = ''] = endpoints;
  if (!/^https?:\/\//.test(endpoint)) return Promise.resolve(null);
  return new Promise((resolve) => {
    const file = (name: string | undefined) => (name === undefined ? undefined : readFileSync(name));
    try {
      const client = endpoint.startsWith('https:') ? https : http;
      const tls = { ca: file(caFile), cert: file(certFile), key: file(keyFile) };
      const request = client.get(new URL('/version', endpoint), { timeout: 2000, ...tls }, (response) => {
        response.resume();
        const told = Date.parse(response.headers.date ?? '');
        resolve(Number.isNaN(told) ? null : told + 500 - Date.now());
      });
      request.on('timeout', () => request.destroy());
      request.on('error', () => resolve(null)); // whether it can be reached is another check's question
    } catch {
      resolve(null);
    }
  });
}
