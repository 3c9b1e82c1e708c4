// The one-way arrows between the rooms of src/. A room may use only what stands below it.
const below = {
  base: [],
  linux: ['base'],
  tun: ['base', 'linux'],
  wireguard: ['base', 'linux'],
  routes: ['base', 'linux'],
  subnet: ['base'],
  'encap/wire': ['base', 'linux', 'tun'],
  'encap/forwarding': ['base', 'linux'],
  'encap/datapath': ['base', 'linux', 'tun', 'wireguard', 'encap/wire', 'encap/forwarding'],
  'kernel-path': ['base', 'linux'],
  backend: ['base', 'linux', 'routes', 'subnet', 'tun', 'wireguard', 'encap', 'kernel-path'],
  observe: ['base', 'linux', 'subnet', 'backend'],
  daemon: ['base', 'linux', 'routes', 'subnet', 'backend', 'observe'],
  operator: ['base', 'linux', 'tun', 'routes', 'subnet', 'backend', 'kernel-path', 'observe', 'daemon'],
  lab: ['base', 'linux', 'subnet', 'encap/wire', 'observe', 'operator'],
  cli: ['base', 'linux', 'tun', 'subnet', 'backend', 'observe', 'daemon', 'operator', 'lab'],
};
module.exports = {
  forbidden: [
    ...Object.entries(below).map(([room, allowed]) => ({
      name: `arrows-of-${room}`,
      comment: `src/${room} may import only: ${allowed.join(', ') || 'nothing of ours'}`,
      severity: 'error',
      from: { path: `^src/${room}/` },
      to: { path: '^src/', pathNot: `^src/(${[room, ...allowed].join('|')})/` },
    })),
    { name: 'no-circular', severity: 'error', from: { path: '^src/' }, to: { circular: true } },
    {
      name: 'etcd-only-in-subnet',
      comment: 'nobody but the registry knows about etcd',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/subnet/' },
      to: { path: 'node_modules/(etcd3|@grpc)' },
    },
    {
      name: 'koffi-only-in-linux',
      comment: 'nobody but src/linux calls into libc',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/linux/' },
      to: { path: 'node_modules/koffi' },
    },
    {
      name: 'no-orphans',
      severity: 'error',
      from: { orphan: true, path: '^src/', pathNot: '\\.d\\.ts$' },
      to: {},
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: 'src/encap/wire/wasm' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'require', 'node', 'default', 'types'],
    },
  },
};
