/** The faults of every overlay, found by the operator's tools alone: a path that carries less than it says, and a closed port. */
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { exec as run } from '../support/exec.js';
import { useLab } from './support/lab.js';

const program = fileURLToPath(new URL('../../dist/cli/tweed.cjs', import.meta.url));
const lab = useLab({ hosts: 2, containers: 1 });

function tweed(host: string, command: string, ...args: string[]) {
  const argv = [process.execPath, program, command, ...args, '--run-dir', lab().files.runFolder(host)];
  return lab().exec(host, argv, { tolerate: true });
}

const address = (host: string) => lab().host(host).address;

describe('ping', () => {
  it('says that a sound overlay works, with a line for each probe, and tests every peer', async () => {
    const one = await tweed('host1', 'ping', address('host2'));
    expect(one.stdout).toContain('the overlay works, also for full-size packets of 1472 bytes');
    expect(one.stdout).toMatch(/1472 bytes, 3: [\d.]+ ms, TTL \d+/);
    expect(one.status).toBe(0);
    const all = await tweed('host1', 'test');
    expect(all.stdout).toMatch(/ok +\S+ +\S+ +3\/3 +3\/3 +3\/3 +3\/3 .*\nthe one peer answers/);
    expect(all.status).toBe(0);
  });

  it('names an MTU hole, with the command that mends it', async () => {
    await lab().exec('switch', ['ip', 'link', 'set', 'host2', 'mtu', '1400']);
    try {
      const { stdout, status } = await tweed('host1', 'ping', address('host2'), '--json');
      const report = JSON.parse(stdout);
      expect(report).toMatchObject({
        ok: false,
        underlay: { largest: 1400 },
        overlay: { largest: 1372, small: { received: 3 }, full: { received: 0 } },
        verdict: expect.stringContaining('carries 1400 bytes, where the MTU of eth0 says 1500'),
        fix: 'ip link set dev eth0 mtu 1400',
      });
      expect(status).toBe(1);
      expect((await tweed('host1', 'test')).status).toBe(1);
    } finally {
      await lab().exec('switch', ['ip', 'link', 'set', 'host2', 'mtu', '1500']);
    }
  });

  it('tells a closed port from a daemon that is down, and doctor names the rule', async () => {
    const rule = ['INPUT', '-p', 'udp', '--dport', '8285', '-j', 'DROP'];
    await lab().exec('host2', ['iptables', '-I', ...rule]);
    try {
      const { stdout, status } = await tweed('host1', 'ping', address('host2'), '-c', '1');
      expect(stdout).toContain('UDP port 8285 is dropped by a firewall');
      expect(status).toBe(1);
      const doctor = await tweed('host2', 'doctor');
      expect(doctor.stdout).toMatch(/FAIL +firewall-input: .* refused by rule 1 of iptables-\w+ INPUT/);
    } finally {
      await lab().exec('host2', ['iptables', '-D', ...rule]);
    }
    await lab().stopDaemon('host2');
    try {
      const { stdout } = await tweed('host1', 'ping', address('host2'), '-c', '1');
      expect(stdout).toContain('nothing listens at UDP port 8285');
    } finally {
      await lab().startDaemon('host2');
    }
  });

  it('pings a container of its own, and says soon that a name is none', async () => {
    const own = (await tweed('host1', 'status', '--json')).stdout;
    const { subnet } = JSON.parse(own).lease;
    const bridge = subnet.replace(/0\/\d+$/, '1');
    const { stdout, status } = await tweed('host1', 'ping', bridge);
    expect(stdout).toMatch(/own subnet: no overlay is involved\nbridge .*3 of 3 came back/);
    expect(status).toBe(0);
    const bogus = await tweed('host1', 'ping', 'bogus.invalid');
    expect(bogus.stderr).toMatch(/bogus\.invalid (has no address|was not resolved)/);
    expect(bogus.status).toBe(1);
  });
});

describe('the tools', () => {
  it('know the daemon of the host that they run on, inside lab exec too', async () => {
    const exec = (...words: string[]) =>
      run([process.execPath, program, 'lab', '--name', lab().name, 'exec', 'host1', '--', ...words], {
        tolerate: true,
      });
    const doctor = await exec('tweed', 'doctor');
    expect(doctor.stdout).toMatch(/ok +registry: /);
    expect(doctor.status).toBe(0);
    expect((await exec('tweed', 'leases')).stdout).toContain(address('host2'));
    // without the variables of lab exec, the daemon alone tells where its registry is
    const bare = await tweed('host1', 'doctor');
    expect(bare.stdout).toMatch(/ok +registry: /);
    const config = await tweed('host1', 'config', '--json');
    expect(JSON.parse(config.stdout)).toMatchObject({
      iface: { value: ['eth0'], from: '-iface' },
      'ip-masq': { value: true, from: '-ip-masq' },
      device: { value: 'flannel0', from: 'default' },
    });
  });

  it('take no daemon of another network namespace for their own', async () => {
    const ofHost = ['--run-dir', lab().files.runFolder('host1')];
    const ask = (...words: string[]) => run([process.execPath, program, ...words, ...ofHost], { tolerate: true });
    const { stderr, status } = await ask('ping', '--all');
    expect(stderr).toMatch(/no daemon runs in this network namespace; .*nsenter --net --target \d+/);
    expect(status).toBe(1);
    // whoever names the directory is shown it, and told
    expect((await ask('status')).stdout).toMatch(
      /^of another network namespace than this shell's: nsenter --net --target \d+\ntweed /,
    );
    expect((await tweed('host1', 'status')).stdout).toMatch(/^tweed /);
  });

  it('say in one line that they need root, before a lease is taken', async () => {
    const nobody = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'];
    const { stderr, status } = await run([...nobody, process.execPath, program, 'run', '--run-dir=/tmp/nobody'], {
      tolerate: true,
    });
    expect(stderr.trim().split('\n').at(-1)).toBe(
      'tweed: tweed run needs the capability CAP_NET_ADMIN; run it as root',
    );
    expect(status).toBe(1);
  });
});
