// npm run lab:docker: three hosts in Docker containers, by docker-compose.yml. Without arguments: up, test, and what to try.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { project, SetupError, say } from '../scripts/support/run.mjs';
import { main, setupProject } from '../scripts/support/setup.mjs';

const usage = `usage: npm run lab:docker -- COMMAND
  up                    build the image, start etcd and three hosts, and wait until they know each other
  test                  check every ordered pair of the containers behind the hosts
  exec PLACE -- WORDS   run a program in host1, in host1/c1 behind it, or in etcd
  trace FROM TO         follow one packet through every device: trace host1/c1 host2/c1
                        [--tcp PORT | --udp PORT] [--size BYTES] [--listen] [--back] [--html FILE]
  down                  remove containers and network`;

const hints = `
look around:   npm run lab:docker -- exec host1/c1 -- ip route      (host1, host2, host3; c1, c2 behind each; etcd)
               npm run lab:docker -- exec host1 -- tweed status
follow one:    npm run lab:docker -- trace host1/c1 host2/c1 --back
watch packets: npm run lab:docker -- exec host1 -- tcpdump -ni eth0 udp port 8285
take it down:  npm run lab:docker -- down`;

const commands = {
  async up({ DockerLab }) {
    const lab = await DockerLab.up();
    say(`${lab.hosts.join(', ')} are up and know each other`);
    return 0;
  },

  async test({ DockerLab, formatMatrix }) {
    const lab = await DockerLab.find();
    try {
      const result = await lab.test();
      say(formatMatrix(result));
      return result.ok ? 0 : 1;
    } finally {
      await lab.close();
    }
  },

  async exec({ DockerLab }, [place, ...words]) {
    if (place === undefined || words.length === 0) return refuse();
    const lab = await DockerLab.find();
    const child = lab.spawn(place, words, { stdio: 'inherit' }, process.stdin.isTTY && process.stdout.isTTY);
    process.on('SIGINT', () => {}); // Ctrl-C is for the program, which gets it too
    return new Promise((resolve, reject) => {
      child.on('error', reject);
      child.on('close', (status, signal) => resolve(status ?? (signal === 'SIGINT' ? 130 : 143)));
    });
  },

  async trace({ DockerLab, traceableInDocker, trace, formatTrace, htmlOfTrace }, words) {
    const { values, positionals } = parseArgs({ args: words, options: traceOptions, allowPositionals: true });
    const [from, to, ...more] = positionals;
    const protocol = values.tcp === undefined ? (values.udp === undefined ? 'icmp' : 'udp') : 'tcp';
    const port = number(values.tcp ?? values.udp, 65_535);
    const size = number(values.size, 65_535);
    if (to === undefined || more.length > 0 || Number.isNaN(port) || Number.isNaN(size)) return refuse();
    const lab = await DockerLab.find();
    try {
      const { listen, back, html } = values;
      const report = await trace(traceableInDocker(lab), { from, to, protocol, port, size, listen, back });
      say(formatTrace(report));
      if (html !== undefined) {
        await writeFile(html, htmlOfTrace(report));
        say(`\nthe page: ${html}`);
      }
      return ['stopped', 'refused'].includes(report.verdict.outcome) ? 1 : 0;
    } finally {
      await lab.close();
    }
  },

  async down({ DockerLab }) {
    await DockerLab.down();
    return 0;
  },
};

const traceOptions = {
  ...{ tcp: { type: 'string' }, udp: { type: 'string' }, size: { type: 'string' }, html: { type: 'string' } },
  ...{ listen: { type: 'boolean' }, back: { type: 'boolean' } },
};

/** @returns undefined for none, NaN for what is no number of 1 to the greatest */
function number(text, greatest) {
  if (text === undefined) return undefined;
  return /^[1-9]\d*$/.test(text) && Number(text) <= greatest ? Number(text) : Number.NaN;
}

function refuse() {
  say(usage);
  return 2;
}

/** The driver is part of the build, so it is loaded when that is done. */
async function load() {
  const built = (path) => import(join(project, 'dist', path));
  const modules = ['docker/lab', 'docker/trace', 'matrix', 'trace/trace', 'trace/text', 'trace/html'];
  const paths = [...modules.map((name) => `lab/${name}.js`), 'base/errors.js'];
  return Object.assign({}, ...(await Promise.all(paths.map(built))));
}

await main(async ([command, ...rest]) => {
  if (command !== undefined && !Object.hasOwn(commands, command)) return refuse();
  await setupProject();
  const parts = await load();
  const words = rest.filter((word, index) => word !== '--' || index !== 1);
  try {
    if (command !== undefined) return await commands[command](parts, words);
    await commands.up(parts);
    say('\nEvery container to every other one:');
    const status = await commands.test(parts);
    say(hints);
    return status;
  } catch (error) {
    if (error.code?.startsWith('ERR_PARSE_ARGS')) return refuse();
    if (error instanceof parts.TweedError) throw new SetupError(error.message);
    throw error;
  }
});
