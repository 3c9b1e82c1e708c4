// The one-way arrows between the rooms of src/. A room may use only what stands below it.
const below = {
  base: [],
  linux: ['base'],
  routes: ['base', 'linux'],
  subnet: ['base'],
  tun: ['base', 'linux'],
  encap: ['base', 'linux', 'routes', 'tun'],
  backend: ['base', 'linux', 'routes', 'subnet', 'tun', 'encap'],
  daemon: ['base', 'linux', 'routes', 'subnet', 'tun', 'encap', 'backend'],
  lab: ['base', 'linux', 'subnet', 'routes', 'daemon'],
  cli: ['base', 'linux', 'routes', 'subnet', 'daemon', 'lab'],
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
      to: { path: 'node_modules/etcd3' },
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
    exclude: { path: 'src/encap/wasm' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'require', 'node', 'default', 'types'],
    },
  },
};
