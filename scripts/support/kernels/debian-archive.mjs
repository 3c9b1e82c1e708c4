// Packages of Debian's archive, fetched and unpacked but not installed, by an apt of our own: this machine's sources,
// packages and architecture stay as they are.
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { SetupError } from '../run.mjs';
import { output } from './output.mjs';

const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg';
/** Packages are kept here; those that are not are fetched again. */
const cache = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'tweed', 'debian');

export class DebianArchive {
  #words;

  /**
   * @param {string} folder for apt's lists
   * @param {string[]} suites such as `bookworm` and `bookworm-security`
   * @param {'amd64' | 'arm64'} architecture
   */
  constructor(folder, suites, architecture) {
    if (!existsSync(keyring)) throw new SetupError(`${keyring} is missing; install debian-archive-keyring`);
    mkdirSync(join(folder, 'lists/partial'), { recursive: true });
    mkdirSync(join(cache, 'partial'), { recursive: true });
    const { main, security } = mirrors();
    const line = (suite) =>
      `deb [signed-by=${keyring}] ${suite.endsWith('-security') ? security : main} ${suite} main\n`;
    writeFileSync(join(folder, 'sources.list'), suites.map(line).join(''));
    writeFileSync(join(folder, 'status'), '');
    const settings = {
      'Dir::Etc::sourcelist': join(folder, 'sources.list'),
      'Dir::Etc::sourceparts': '/dev/null',
      'Dir::State::lists': join(folder, 'lists'),
      'Dir::State::status': join(folder, 'status'),
      'Dir::Cache': folder,
      'Dir::Cache::archives': cache,
      'APT::Architecture': architecture,
      'APT::Architectures': architecture,
      'APT::Sandbox::User': '',
      'APT::Install-Recommends': 'false',
      'Acquire::Languages': 'none',
      'Debug::NoLocking': 'true',
      // Of backports apt takes only what it is told to.
      ...(suites.at(-1)?.endsWith('-backports') && { 'APT::Default-Release': suites.at(-1) }),
    };
    this.#words = ['-q', ...Object.entries(settings).flatMap(([name, value]) => ['-o', `${name}=${value}`])];
    this.#apt('apt-get', 'update');
  }

  #apt(program, ...args) {
    return output([program, ...this.#words, ...args]);
  }

  /** The versions of a package that the suites have, oldest first. */
  versions(name) {
    const lines = this.#apt('apt-cache', 'madison', name).split('\n');
    const found = lines.map((line) => line.split('|')[1]?.trim() ?? '').filter((version) => version !== '');
    return found.sort((a, b) => a.localeCompare(b, 'en', { numeric: true }));
  }

  /**
   * Fetches packages with all that they depend on.
   *
   * @param {string[]} packages names, or NAME=VERSION
   * @param {RegExp} [only] of these names
   * @returns {string[]} paths of .deb files
   */
  fetch(packages, only = /^/) {
    const plan = this.#apt('apt-get', 'install', '--simulate', '--yes', ...packages);
    const planned = [...plan.matchAll(/^Inst (\S+) \((\S+) .*\[(\S+)\]\)/gm)].map(
      ([, name, version, architecture]) => ({
        name,
        words: `${name}=${version}`,
        path: join(cache, `${name}_${version.replaceAll(':', '%3a')}_${architecture}.deb`),
      }),
    );
    const wanted = planned.filter(({ name }) => only.test(name));
    const missing = wanted.filter(({ path }) => !existsSync(path));
    if (missing.length > 0)
      output(['apt-get', ...this.#words, 'download', ...missing.map(({ words }) => words)], { cwd: cache });
    const lost = wanted.find(({ path }) => !existsSync(path));
    if (lost !== undefined || wanted.length === 0) throw new SetupError(`apt brought no ${lost?.words ?? packages[0]}`);
    return wanted.map(({ path }) => path);
  }
}

/** Where this machine's own apt gets Debian from. */
function mirrors() {
  const format = '$(REPO_URI) $(CODENAME) $(ORIGIN)';
  const listed = output(['apt-get', 'indextargets', '--format', format, 'Created-By: Packages']).split('\n');
  const find = (pattern) =>
    listed.map((line) => line.split(' ')).find(([, suite, origin]) => origin === 'Debian' && pattern.test(suite))?.[0];
  return {
    main: find(/^[a-z]+$/) ?? 'http://deb.debian.org/debian/',
    security: find(/^[a-z]+-security$/) ?? 'http://deb.debian.org/debian-security/',
  };
}

/** Unpacks a package below a folder, where bin, lib and so on may be links already. */
export function unpack(deb, folder, excluded = []) {
  const options = excluded.map((path) => `--exclude=${path}`).join(' ');
  output([
    'sh',
    '-c',
    `dpkg-deb --fsys-tarfile "$0" | tar -x -C "$1" --keep-directory-symlink ${options}`,
    deb,
    folder,
  ]);
}
