import { messageOf, TweedError } from '../../base/errors.js';
import { ExecError } from '../../base/exec.js';

/** Masquerade or forward rules could not be read or written. */
export class RulesError extends TweedError {
  /** The program or the kernel's part of it is not there, so neither are rules by it. */
  get nothingInForce(): boolean {
    return this.code === 'RULES_TOOL_MISSING' || this.code === 'RULES_KERNEL_FEATURE_MISSING';
  }
}

interface Explanation {
  readonly pattern: RegExp;
  readonly code: string;
  readonly advice: string;
}

// The first that fits the tool's own words is given; the texts are those of iptables 1.6 to 1.8 and nft 0.9 to 1.1.
const iptablesExplanations: readonly Explanation[] = [
  {
    pattern: /is not installed|exec of "[^"]*" failed/,
    code: 'RULES_TOOL_MISSING',
    advice:
      'install the package iptables (apt-get install iptables, dnf install iptables-nft), ' +
      'or set "EnableNFTables": true in the network configuration',
  },
  {
    pattern: /must be root|Permission denied|Operation not permitted/,
    code: 'RULES_NOT_PERMITTED',
    advice: 'run as root, or with CAP_NET_ADMIN and CAP_NET_RAW',
  },
  {
    pattern: /xtables lock|Resource temporarily unavailable/,
    code: 'RULES_LOCKED',
    advice:
      'another program has held /run/xtables.lock for more than ten seconds: find it with fuser -v /run/xtables.lock',
  },
  {
    pattern: /Couldn't (load|find) (match|target)/,
    code: 'RULES_EXTENSION_MISSING',
    advice: 'this extension belongs to the package iptables: install that package again, whole',
  },
  {
    pattern: /Table does not exist|initialize|insmod|rule set generation id/,
    code: 'RULES_KERNEL_FEATURE_MISSING',
    advice:
      'run with CAP_NET_ADMIN and CAP_NET_RAW; if it has them, the kernel lacks this table: modprobe -a iptable_filter ' +
      'iptable_nat, for IPv6 ip6table_filter ip6table_nat (iptables-legacy), or nf_tables nft_compat (iptables-nft); small cloud kernels keep them in linux-modules-extra-$(uname -r) or kernel-modules-extra',
  },
  {
    pattern:
      /missing kernel module|No chain\/target\/match|_(APPEND|ADD) failed|line \d+ failed|Protocol not supported/,
    code: 'RULES_KERNEL_FEATURE_MISSING',
    advice:
      'the kernel may lack a match or target: modprobe -a xt_comment xt_mark xt_MASQUERADE nf_nat; small cloud kernels ' +
      'keep them in linux-modules-extra-$(uname -r) or kernel-modules-extra',
  },
];

const nftablesExplanations: readonly Explanation[] = [
  {
    pattern: /is not installed|exec of "[^"]*" failed/,
    code: 'RULES_TOOL_MISSING',
    advice: 'install the package nftables, or set "EnableNFTables": false in the network configuration',
  },
  {
    pattern: /must be root|Permission denied|Operation not permitted/,
    code: 'RULES_NOT_PERMITTED',
    advice: 'run as root, or with CAP_NET_ADMIN',
  },
  {
    pattern: /JSON support not compiled-in/i,
    code: 'RULES_TOOL_TOO_SMALL',
    advice: 'install an nft with JSON support (the package nftables has it), or set "EnableNFTables": false',
  },
  {
    pattern: /No such file or directory|Operation not supported|Protocol not supported|cache initialization failed/,
    code: 'RULES_KERNEL_FEATURE_MISSING',
    advice:
      'the kernel may lack nftables or its NAT: modprobe -a nf_tables nft_chain_nat nft_masq; small cloud kernels keep ' +
      'them in linux-modules-extra-$(uname -r) or kernel-modules-extra',
  },
];

/** Turns what `iptables-save` or `iptables-restore` threw into an error that says what to do; `script` is what it was given. */
export function iptablesError(thrown: unknown, script = ''): RulesError {
  return explain(thrown, iptablesExplanations, script, 'run the command by hand to see more');
}

/** The same for `nft`. */
export function nftablesError(thrown: unknown, script = ''): RulesError {
  return explain(thrown, nftablesExplanations, script, 'run nft by hand to see more');
}

function explain(thrown: unknown, explanations: readonly Explanation[], script: string, otherwise: string): RulesError {
  const text = messageOf(thrown)
    .replace(/\s*\n\s*/g, ' ')
    .trim();
  const { code, advice } = explanations.find(({ pattern }) => pattern.test(text)) ?? {
    code: 'RULES_FAILED',
    advice: otherwise,
  };
  // A tool that started says only "line 5"; show what stands there.
  const number = thrown instanceof ExecError ? /\bline:? (\d+)|stdin:(\d+):/.exec(text) : null;
  const line = number === null ? undefined : script.split('\n')[Number(number[1] ?? number[2]) - 1];
  const quoted = line ? ` (that line is: ${line})` : '';
  return new RulesError(code, `${text}${quoted}; ${advice}`, { cause: thrown });
}
