import { execFileSync, spawn } from 'node:child_process';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Engine, startEngine } from '../../docker/support/engine.mjs';
import { type AnyPrefix, formatAddress, parseAddress, parseAnyPrefix, prefixContains } from '../../src/base/address.js';
import { exec } from '../../src/base/exec.js';
import { readSubnet } from '../../src/lab/daemon.js';
import { formatMatrix, type MatrixPlace, runMatrix } from '../../src/lab/matrix.js';
import { Probe, probeCommand } from '../../src/lab/probe/client.js';
import { useLab } from '../system/support/lab.js';

// Two hosts as docs/docker.md sets them up: beside tweed a Docker engine, with the bridge and the rules that it makes
// itself by the options of `tweed docker-opts`. The hosts are network namespaces.
const lab = useLab({ hosts: 2, containers: 0, ipFamilies: 'dual' });
const project = fileURLToPath(new URL('../..', import.meta.url));
const command = fileURLToPath(new URL('../../dist/cli/tweed.cjs', import.meta.url));
/** An image with nothing in it; its containers see the machine's programs. */
const image = 'nothing';
const seen = new Set(['/usr', '/lib', '/lib64', dirname(dirname(process.execPath)), project]);

const engines: Engine[] = [];
const probes: Probe[] = [];

/** What an operator passes on to dockerd. */
async function dockerOptions(host: string): Promise<string[]> {
  const words = ['docker-opts', '-f', lab().files.subnetFile(host), '-d', '-', '-c'];
  const { stdout } = await exec([process.execPath, command, ...words]);
  return /^DOCKER_OPTS="(.*)"$/m.exec(stdout)?.[1]?.trim().split(/\s+/) ?? [];
}

beforeAll(async () => {
  for (const { name } of lab().hosts) {
    await lab().exec(name, ['ip', 'link', 'delete', 'br0']); // the lab's own, which Docker's takes the place of
    // As Docker leaves it when it was the one to turn forwarding on.
    for (const tables of ['iptables', 'ip6tables']) await lab().exec(name, [tables, '--policy', 'FORWARD', 'DROP']);
    const inside = ['nsenter', `--net=/run/netns/${lab().namespace(name)}`];
    engines.push(await startEngine({ inside, options: await dockerOptions(name) }));
  }
});

afterAll(async () => {
  await Promise.allSettled(probes.map((probe) => probe.close()));
  for (const engine of engines) await engine.stop();
});

function docker(engine: Engine, words: string[], input = ''): string {
  return execFileSync('docker', words, { env: engine.env, input, encoding: 'utf8' }).trim();
}

/** A container on the engine's own bridge, with a probe in it. */
async function startContainer(engine: Engine, name: string): Promise<MatrixPlace> {
  const mounts = [...seen].map((folder) => `--volume=${folder}:${folder}:ro`);
  const words = ['run', '--interactive', '--rm', '--name', name, ...mounts, image, ...probeCommand()];
  const probe = new Probe(name, spawn('docker', words, { stdio: 'pipe', env: engine.env }));
  probes.push(probe);
  await probe.ports();
  const format = '{{.NetworkSettings.IPAddress}} {{.NetworkSettings.GlobalIPv6Address}}';
  return { name, addresses: docker(engine, ['inspect', '--format', format, name]).split(' '), probe };
}

/** @param gateway with its host bits, as the subnet file has it */
function isInSubnet(text: string, gateway: AnyPrefix): boolean {
  const subnet = parseAnyPrefix(`${formatAddress(gateway.address)}/${gateway.length}`);
  const address = parseAddress(text);
  return subnet !== null && address !== null && prefixContains(subnet, address);
}

it("two Docker bridges, set up from two hosts' leases, reach each other", async () => {
  const places: MatrixPlace[] = [];
  for (const [index, { name }] of lab().hosts.entries()) {
    const engine = engines[index] as Engine;
    const { gateways, mtu } = await readSubnet(lab().files, name);
    expect(await dockerOptions(name)).toEqual([
      ...[
        expect.stringMatching(/^--bip=/),
        expect.stringMatching(/^--fixed-cidr-v6=fd00:/),
        '--ip-masq=false',
        '--ipv6',
      ],
      `--mtu=${mtu}`,
    ]);
    docker(engine, ['import', '-', image], '\0'.repeat(10_240)); // an empty tar file
    for (const number of [1, 2]) places.push(await startContainer(engine, `${name}-c${number}`));
    for (const { addresses } of places.slice(-2)) {
      const areInside = addresses.map((text, at) => isInSubnet(text, gateways[at] as AnyPrefix));
      expect(areInside, addresses.join(' ')).toEqual([true, true]);
    }
  }
  const result = await runMatrix(places, { transferBytes: 2_000_000 });
  expect(result.ok, formatMatrix(result)).toBe(true);
  expect(result.pairs).toHaveLength(24);
});
