// What a Debian package says of itself.
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { SetupError } from './run.mjs';

const processors = { amd64: 'x64', arm64: 'arm64' };

/** The package with koffi's binary for a Debian architecture: name, version and sum, as package-lock.json has them. */
export function koffiBinary(project, architecture) {
  const processor = processors[architecture];
  if (processor === undefined) {
    throw new SetupError(
      `no package is made for ${architecture}; there is one for ${Object.keys(processors).join(', ')}`,
    );
  }
  const name = `@koromix/koffi-linux-${processor}`;
  const { packages } = JSON.parse(readFileSync(join(project, 'package-lock.json'), 'utf8'));
  const { version, integrity } = packages[`node_modules/${name}`];
  return { name, version, integrity };
}

/** @param size of what is installed, KiB */
export function controlFile({ version, description, architecture, size }) {
  return `Package: tweed
Version: ${version}
Architecture: ${architecture}
Maintainer: The tweed project
Installed-Size: ${size}
Depends: nodejs (>= 20.19), iproute2, iptables | nftables, libc6, libstdc++6
Recommends: ca-certificates, iputils-ping
Suggests: bash-completion, docker.io, etcd-client, tcpdump
Section: net
Priority: optional
Description: ${description}
 Every host runs one daemon. It leases a subnet in etcd and carries the packets
 of its containers to the other hosts. It takes the place of flanneld, host by
 host: options, keys in etcd, files and bytes on the wire are the same.
`;
}

/** The sums of every file of a package, as dpkg --verify reads them. */
export function md5sums(root) {
  return readdirSync(root, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(root, join(entry.parentPath ?? entry.path, entry.name)))
    .filter((path) => !path.startsWith('DEBIAN/'))
    .sort()
    .map(
      (path) =>
        `${createHash('md5')
          .update(readFileSync(join(root, path)))
          .digest('hex')}  ${path}\n`,
    )
    .join('');
}
