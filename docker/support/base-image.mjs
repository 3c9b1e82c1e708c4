// The two images that the Dockerfile starts from, made here: Debian from its packages, and on top of it this machine's node.
// So a build needs no registry, and the Dockerfile is the one that everybody builds.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  closeSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { npm } from '../../scripts/support/run.mjs';
import { NoEngineError, roomyFolder } from './engine.mjs';

const debianImage = 'debian:bookworm-slim';
const nodeImage = 'node:20-bookworm-slim';
/** This machine's certificate authorities: there may be one among them without which nothing can be downloaded. */
const certificates = '/etc/ssl/certs/ca-certificates.crt';

/** @param {NodeJS.ProcessEnv} env the engine's */
export async function makeBaseImages(env) {
  await importDebian(env);
  buildNode(env);
}

/** What the slim image leaves out as well. */
const leftOut = ['doc', 'man', 'info', 'locale', 'lintian'].map((folder) => `/usr/share/${folder}/*`);

async function importDebian(env) {
  const scratch = mkdtempSync(join(roomyFolder(), 'tweed-debian-'));
  const argv = ['--quiet', '--mode=root', '--variant=minbase', '--format=tar', '--dpkgopt=force-unsafe-io'];
  argv.push(...leftOut.map((path) => `--dpkgopt=path-exclude=${path}`));
  // The clock of a machine for tests may be wrong, and its mirror frozen.
  argv.push('--aptopt=Acquire::Check-Valid-Until "false"', '--aptopt=Acquire::Check-Date "false"');
  const sources = ['/etc/apt/sources.list.d/debian.sources', '/etc/apt/sources.list'].filter((path) =>
    existsSync(path),
  );
  // One /usr, without the package that converts to it and brings all of Perl.
  argv.push('--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr', '--include=usr-is-merged');
  argv.push('bookworm', '-', ...sources.slice(0, 1));
  const logPath = join(scratch, 'mmdebstrap.log');
  const log = openSync(logPath, 'a');
  const path = 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
  try {
    const make = spawn('mmdebstrap', argv, { stdio: ['ignore', 'pipe', log], env: { ...env, TMPDIR: scratch } });
    const words = ['import', '--change', path, '--change', 'CMD ["bash"]', '-', debianImage];
    const load = spawn('docker', words, { stdio: ['pipe', 'ignore', 'inherit'], env });
    make.stdout.pipe(load.stdin);
    const [[made], [loaded]] = await Promise.all([once(make, 'close'), once(load, 'close')]);
    if (made !== 0 || loaded !== 0) {
      const tail = readFileSync(logPath, 'utf8').trimEnd().split('\n').slice(-10).join('\n');
      throw new NoEngineError(
        `no ${debianImage}: mmdebstrap ended with ${made}, docker import with ${loaded}:\n${tail}`,
      );
    }
  } finally {
    closeSync(log);
    rmSync(scratch, { recursive: true, force: true });
  }
}

function buildNode(env) {
  const context = mkdtempSync(join(tmpdir(), 'tweed-node-'));
  try {
    const npmProgram = realpathSync(npm().at(-1));
    mkdirSync(join(context, 'bin'));
    cpSync(process.execPath, join(context, 'bin/node'));
    cpSync(dirname(dirname(npmProgram)), join(context, 'npm'), { recursive: true });
    cpSync(certificates, join(context, 'certificates.crt'));
    writeFileSync(
      join(context, 'bin/npm'),
      '#!/bin/sh\nexec node /usr/local/lib/node_modules/npm/bin/npm-cli.js "$@"\n',
    );
    chmodSync(join(context, 'bin/npm'), 0o755);
    const [program, ...args] = npm('config', 'get', 'registry');
    const registry = spawnSync(program, args, { encoding: 'utf8' }).stdout.trim();
    const authorities = '/etc/ssl/build.crt';
    const lines = [
      `FROM ${debianImage}`,
      'COPY bin /usr/local/bin',
      'COPY npm /usr/local/lib/node_modules/npm',
      `COPY certificates.crt ${authorities}`,
      `ENV NODE_EXTRA_CA_CERTS=${authorities} npm_config_cafile=${authorities} npm_config_registry=${registry}`,
      'RUN node --version && npm --version',
      'CMD ["node"]',
    ];
    writeFileSync(join(context, 'Dockerfile'), `${lines.join('\n')}\n`);
    docker(env, 'build', '--quiet', '--network=host', '--tag', nodeImage, context);
  } finally {
    rmSync(context, { recursive: true, force: true });
  }
}

function docker(env, ...args) {
  const { status, stdout, stderr } = spawnSync('docker', args, { env, encoding: 'utf8' });
  if (status !== 0) throw new NoEngineError(`docker ${args.join(' ')} failed:\n${stdout}${stderr}`);
}
