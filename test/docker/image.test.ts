import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { docker } from '../../src/lab/docker/engine.js';
import { waitFor } from '../../src/lab/wait.js';

const project = fileURLToPath(new URL('../..', import.meta.url));
const image = 'tweed';
const container = 'tweed-alone';

beforeAll(async () => {
  await docker(['build', '--network=host', '--tag', image, project], { timeoutMs: 600_000 });
});

afterAll(async () => {
  await docker(['rm', '--force', container], { tolerate: true });
});

function inImage(...words: string[]) {
  return docker(['run', '--rm', '--network=none', '--entrypoint', words[0] as string, image, ...words.slice(1)], {
    tolerate: true,
  });
}

describe('the image', () => {
  it('holds neither compiler nor development package nor package manager of node', async () => {
    const selections = (await inImage('dpkg', '--get-selections')).stdout.split('\n');
    const packages = selections.map((line) => line.split(/[:\t]/)[0] as string);
    expect(packages).toContain('iproute2');
    expect(packages.filter((name) => /-dev$|^(gcc|g\+\+|cpp|clang|make|cmake|python)/.test(name))).toEqual([
      'gcc-12-base',
    ]);
    const programs = 'for p in npm npx yarn cc gcc g++ make python3 tsc; do command -v $p; done; true';
    expect((await inImage('sh', '-c', programs)).stdout).toBe('');
    const modules = (await inImage('ls', '/opt/tweed/node_modules')).stdout.split('\n');
    expect(modules).toContain('koffi');
    for (const name of ['typescript', 'vitest', 'assemblyscript', '@biomejs']) expect(modules).not.toContain(name);
    const { stdout } = await docker(['image', 'inspect', '--format', '{{.Size}}', image]);
    process.stdout.write(`    the image takes ${(Number(stdout) / 1e6).toFixed(0)} MB\n`);
  });

  it('runs tweed, and flanneld by its old name', async () => {
    expect((await docker(['run', '--rm', '--network=none', image, '--version'])).stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
    expect((await inImage('flanneld', '--help')).stdout).toContain('etcd-endpoints');
  });

  it('needs one capability and one device, says when it is ready, and ends in order within 2 seconds', async () => {
    const rights = ['--cap-drop=ALL', '--cap-add=NET_ADMIN', '--device=/dev/net/tun', '--sysctl=net.ipv4.ip_forward=1'];
    const network = ['network', 'create', '--subnet=198.18.86.0/24', container];
    await docker(network);
    try {
      const registry = '--etcd-endpoints=file:///run/registry';
      await docker([
        'run',
        '--detach',
        '--name',
        container,
        '--network',
        container,
        ...rights,
        image,
        'run',
        registry,
        '--ip-masq',
      ]);
      const set = ['network', 'set', registry, '{"Network":"100.97.0.0/16"}'];
      await docker(['exec', container, 'tweed', ...set]);
      const ready = async () =>
        (await docker(['exec', container, 'tweed', 'status', '--ready'], { tolerate: true })).status === 0;
      await waitFor('the daemon to be ready', ready, { everyMs: 200 });
      const healthy = async () =>
        (await docker(['inspect', '--format', '{{.State.Health.Status}}', container])).stdout.trim() === 'healthy';
      await waitFor('the container to be healthy', healthy, { timeoutMs: 60_000, everyMs: 500 });
      await docker(['stop', '--time=2', container]);
      const { stdout } = await docker(['inspect', '--format', '{{.State.ExitCode}}', container]);
      expect(stdout.trim()).toBe('0'); // 137 if it had to be killed
    } finally {
      await docker(['rm', '--force', container], { tolerate: true });
      await docker(['network', 'rm', container]);
    }
  });
});
