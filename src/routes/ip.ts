import { ExecError, type ExecResult, exec } from '../base/exec.js';
import { JsonError, PROGRAM_LIMITS, parseJson } from '../base/json.js';
import { membersOf } from '../base/members.js';

/** Starts a program: `exec`, or a stand-in for it that puts words such as `ip netns exec NAME` in front. */
export type Run = typeof exec;

/** One command of a batch that was refused, and what the kernel said. */
export interface BatchFailure {
  readonly line: string;
  readonly error: string;
}

/** What a batch printed, and which of its commands were refused. */
export interface BatchResult {
  readonly stdout: string;
  readonly failures: readonly BatchFailure[];
}

/** The `ip` or `bridge` program, started through a `Run`. */
export interface IpTool {
  /** Runs it with the given words. Throws ExecError with the kernel's own words when it refuses. */
  run(...words: string[]): Promise<ExecResult>;
  /** Runs it with `-json` and returns what it printed, parsed. The caller knows the shape it asked for. */
  json<T>(...words: string[]): Promise<T>;
  /**
   * Runs many commands in one process, all of them, whatever becomes of each.
   *
   * @param flags for all of them, such as `-json`
   */
  batchAll(lines: readonly string[], ...flags: string[]): Promise<BatchResult>;
}

export function ipTool(run: Run = exec, program: 'ip' | 'bridge' = 'ip'): IpTool {
  return {
    run: (...words) => run([program, ...words]),
    async json<T>(...words: string[]): Promise<T> {
      const { stdout } = await run([program, '-json', ...words]);
      return parseIpJson(stdout) as T;
    },
    async batchAll(lines, ...flags) {
      if (lines.length === 0) return { stdout: '', failures: [] };
      const argv = [program, ...flags, '-force', '-batch', '-'];
      const result = await run(argv, { input: `${lines.join('\n')}\n`, tolerate: true });
      const failures = parseBatchErrors(result.stderr, lines);
      if (result.status !== 0 && failures.length === 0) {
        throw new ExecError(argv, result, result.stderr.trim() || `exit status ${result.status}`);
      }
      return { stdout: result.stdout, failures };
    },
  };
}

/** A question for the joint process, and who waits for the answer. */
interface Question {
  readonly words: readonly string[];
  readonly resolve: (answer: readonly object[] | Promise<readonly object[]>) => void;
}

/** Words that mean nothing to `ip -batch`, in which others would. */
const PLAIN = /^[\w.:/@-]+$/;

/**
 * The same, but questions that are asked before the caller waits for anything are put to one process: to start one takes a
 * multiple of what the question takes. With details, as far as `ip` has any.
 */
export function joiningIpTool(run: Run = exec): IpTool {
  const tool = ipTool(run);
  let waiting: Question[] = [];
  const ask = async () => {
    const questions = waiting;
    waiting = [];
    const lines = [...new Set(questions.map(({ words }) => words.join(' ')))];
    const answers = lines.length === 1 ? null : await askTogether(tool, lines).catch(() => null);
    for (const { words, resolve } of questions) {
      // apart, each has an error of its own
      resolve(answers?.get(words.join(' ')) ?? tool.json<readonly object[]>('-details', ...words));
    }
  };
  return {
    ...tool,
    json<T>(...given: string[]): Promise<T> {
      // IPv4 is what a question about routes is about unless it says otherwise
      const words = given.filter((word, i) => word !== '-details' && !(word === '-4' && given.indexOf('route') > i));
      if (words[0]?.startsWith('-') || !words.every((word) => PLAIN.test(word))) return tool.json<T>(...given);
      return new Promise<readonly object[]>((resolve) => {
        if (waiting.length === 0) queueMicrotask(() => void ask());
        waiting.push({ words, resolve });
      }) as Promise<T>;
    },
  };
}

/**
 * Null where it cannot be told which answer belongs to which question: a version of `ip` that prints nothing for none; or where
 * an answer is not whole: `address show` behind `link show` leaves the addresses out, for `ip` remembers what it was asked before.
 */
async function askTogether(
  tool: IpTool,
  lines: readonly string[],
): Promise<ReadonlyMap<string, readonly object[]> | null> {
  const { stdout, failures } = await tool.batchAll(lines, '-json', '-details');
  const answers = stdout.split('\n').filter((line) => line.trim() !== '');
  if (failures.length > 0 || answers.length !== lines.length) return null;
  const parsed = answers.map(parseIpJson);
  const whole = parsed.every(
    (answer, i) => !lines[i]?.startsWith('address') || answer.every((one) => 'addr_info' in one),
  );
  return whole ? new Map(parsed.map((answer, i) => [lines[i] as string, answer])) : null;
}

/**
 * What `ip -json` and `bridge -json` print: a list of objects, or nothing at all for an empty one. Older versions put an
 * empty object in place of what a filter left out.
 *
 * @throws JsonError
 */
export function parseIpJson(text: string): readonly object[] {
  const list = parseJson(text.trim() || '[]', PROGRAM_LIMITS);
  if (!Array.isArray(list) || !list.every((entry) => membersOf(entry) !== null)) {
    throw new JsonError('ip printed something else than a list of objects');
  }
  return list;
}

/** `ip -force -batch` prints the reason of a failure, then `Command failed -:LINE` with lines counted from 1. */
export function parseBatchErrors(stderr: string, lines: readonly string[]): readonly BatchFailure[] {
  const failures: BatchFailure[] = [];
  let reasons: string[] = [];
  for (const text of stderr.split('\n')) {
    const failed = /^Command failed .*:(\d+)$/.exec(text);
    if (failed === null) {
      if (text.trim() !== '') reasons.push(text.trim());
    } else {
      failures.push({ line: lines[Number(failed[1]) - 1] ?? text, error: reasons.join('; ') });
      reasons = [];
    }
  }
  return failures;
}

/** A line of `ip -json [-details] address show`, as far as tweed reads it. */
export interface LinkJson {
  readonly ifindex: number;
  readonly ifname: string;
  readonly flags: readonly string[];
  readonly mtu: number;
  readonly txqlen?: number;
  readonly address?: string;
  /** `info_data` holds what only this kind of link has; switches that are off may be missing. */
  readonly linkinfo?: { readonly info_kind?: string; readonly info_data?: Readonly<Record<string, unknown>> };
  readonly addr_info: readonly AddressJson[];
}

/** An address of a link. The flags are present, and true, only when they are set. */
export interface AddressJson {
  readonly family: string;
  readonly local: string;
  readonly prefixlen: number;
  readonly scope: string;
  /** Has a lifetime, that is, IFA_F_PERMANENT is not set. */
  readonly dynamic?: boolean;
  readonly deprecated?: boolean;
  /** It is not known yet, or known not, to be the only one on its link. */
  readonly tentative?: boolean;
  readonly dadfailed?: boolean;
  /** IFA_F_TEMPORARY of IPv6, which is IFA_F_SECONDARY of IPv4: the same bit. */
  readonly temporary?: boolean;
  readonly secondary?: boolean;
}

/** A line of `ip -json route show`, of either family. `dst` is `default`, an address, or a prefix. */
export interface RouteJson {
  readonly type?: string;
  readonly dst: string;
  readonly gateway?: string;
  readonly dev?: string;
  readonly protocol?: string;
  readonly scope?: string;
  readonly prefsrc?: string;
  readonly metric?: number;
  readonly flags?: readonly string[];
  readonly nexthops?: readonly { readonly dev?: string; readonly gateway?: string }[];
}
