/** Numbers and layouts of bpf(2) (linux/bpf.h). Offsets in bytes, into the `union bpf_attr` that a command reads. */

/** As much of `union bpf_attr` as any command here fills. Kernels take a longer one whose rest is zero. */
export const BPF_ATTR_BYTES = 128;
/** Bytes of an object's name, its zero included. */
export const BPF_OBJ_NAME_LEN = 16;

export const BPF_MAP_CREATE = 0;
export const BPF_MAP_LOOKUP_ELEM = 1;
export const BPF_MAP_UPDATE_ELEM = 2;
export const BPF_MAP_DELETE_ELEM = 3;
export const BPF_MAP_GET_NEXT_KEY = 4;
export const BPF_PROG_LOAD = 5;
export const BPF_OBJ_PIN = 6;
export const BPF_OBJ_GET = 7;
export const BPF_PROG_TEST_RUN = 10;
export const BPF_PROG_GET_NEXT_ID = 11;
export const BPF_MAP_GET_NEXT_ID = 12;
export const BPF_PROG_GET_FD_BY_ID = 13;
export const BPF_MAP_GET_FD_BY_ID = 14;
export const BPF_OBJ_GET_INFO_BY_FD = 15;
export const BPF_PROG_QUERY = 16;
export const BPF_LINK_CREATE = 28;
export const BPF_LINK_GET_FD_BY_ID = 30;
export const BPF_LINK_GET_NEXT_ID = 31;
export const BPF_LINK_DETACH = 34;

export const BPF_MAP_TYPE_HASH = 1;
export const BPF_MAP_TYPE_ARRAY = 2;
export const BPF_MAP_TYPE_PERCPU_ARRAY = 6;
export const BPF_MAP_TYPE_LRU_HASH = 9;
export const BPF_MAP_TYPE_LPM_TRIE = 11;
/** Map flag: memory is taken for an entry when it comes. A prefix trie wants it. */
export const BPF_F_NO_PREALLOC = 1;

export const BPF_PROG_TYPE_SCHED_CLS = 3;
export const BPF_PROG_TYPE_XDP = 6;

/** Where a link leads. TCX is Linux 6.6 and newer. */
export const BPF_XDP = 37;
export const BPF_TCX_INGRESS = 46;
export const BPF_TCX_EGRESS = 47;

export const MAP_CREATE = { type: 0, keySize: 4, valueSize: 8, maxEntries: 12, flags: 16, name: 28 } as const;
/** Of lookup, update, delete and next key; `value` is the next key for the last. */
export const MAP_ELEMENT = { map: 0, key: 8, value: 16, flags: 24 } as const;
export const PROG_LOAD = {
  type: 0,
  instructionCount: 4,
  instructions: 8,
  license: 16,
  logLevel: 24,
  logSize: 28,
  log: 32,
  name: 48,
} as const;
export const OBJ = { path: 0, descriptor: 8 } as const;
export const TEST_RUN = {
  program: 0,
  result: 4,
  dataSizeIn: 8,
  dataSizeOut: 12,
  dataIn: 16,
  dataOut: 24,
  repeat: 32,
  duration: 36,
  contextSizeIn: 40,
  contextSizeOut: 44,
  contextIn: 48,
  contextOut: 56,
} as const;
/** What hangs on a device's hook. `count` is how many numbers there is room for, and then how many there are. */
export const QUERY = { ifindex: 0, attachType: 4, programs: 16, count: 24 } as const;
export const BY_ID = { id: 0, nextId: 4 } as const;
export const INFO = { descriptor: 0, length: 4, info: 8 } as const;
export const LINK_CREATE = { program: 0, ifindex: 4, attachType: 8, flags: 12 } as const;
/** Where the number stands in `struct bpf_prog_info` and `bpf_link_info`. */
export const PROG_INFO_ID = 4;
export const LINK_INFO_ID = 4;
/** Where the name stands in `struct bpf_prog_info` and `bpf_map_info`, and the program's number in `bpf_link_info`. */
export const PROG_INFO_NAME = 64;
export const MAP_INFO_NAME = 24;
export const LINK_INFO_PROGRAM = 8;
/** Of a TCX link: its device; 0 once it has been taken off. */
export const LINK_INFO_IFINDEX = 16;
