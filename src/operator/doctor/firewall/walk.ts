/**
 * Walks a chain of rules as the kernel does, for one packet.
 *
 * Theory of operation. A rule whose matches cannot all be answered is passed over, and remembered with what it would have
 * done. At the end those count that would have changed the outcome: then the walk is in doubt, and says by which rules.
 * So the answer is never "accepted" for want of understanding.
 */
import { type Answer, allOf, type Packet } from './packet.js';

/** What a rule does with a packet that it matches. */
export type Action =
  | { readonly kind: 'accept' | 'refuse' | 'return' | 'nothing' }
  | { readonly kind: 'jump' | 'goto'; readonly chain: string }
  /** mark = (mark & ~mask) ^ value */
  | { readonly kind: 'mark'; readonly value: number; readonly mask: number }
  /** It decides, and how cannot be told. */
  | { readonly kind: 'unknown'; readonly why: string };

export interface Rule {
  /** As its tool prints it. */
  readonly text: string;
  /** From 1, among the rules of its chain. */
  readonly number: number;
  readonly matches: readonly Match[];
  readonly action: Action;
}

/** @param mark the packet's mark so far; null: not known any more */
export type Match = (packet: Packet, mark: number | null) => Answer;

export type Chains = ReadonlyMap<string, readonly Rule[]>;

/** A chain on a hook of the kernel. */
export interface BaseChain {
  /** Such as `iptables filter INPUT`. */
  readonly name: string;
  readonly rules: readonly Rule[];
  readonly policy: 'accept' | 'refuse';
  /** Those that its rules lead to. */
  readonly chains: Chains;
}

/** A rule that decided, or that could have. */
export interface Place {
  readonly chain: string;
  /** Null: the policy of the chain. */
  readonly rule: Rule | null;
}

export interface Doubt extends Place {
  readonly rule: Rule;
  readonly would: 'accept' | 'refuse' | 'decide';
  readonly why: string;
}

export interface Passage {
  readonly verdict: 'accept' | 'refuse';
  readonly by: Place;
  /** What could have changed the verdict. */
  readonly doubts: readonly Doubt[];
}

/** As deep as the kernel lets chains call each other, and more. */
const DEPTH = 64;
/** Jumps can double the way with every chain; after so many rules it is given up. */
const STEPS = 200_000;

type Outcome = { readonly end: 'accept' | 'refuse'; readonly by: Place } | { readonly end: 'return' };

export function walk(base: BaseChain, packet: Packet): Passage {
  const walker = new Walker(base.chains, packet);
  const outcome = walker.through(base.name, base.rules, 0);
  const verdict = outcome.end === 'return' ? base.policy : outcome.end;
  const by = outcome.end === 'return' ? { chain: base.name, rule: null } : outcome.by;
  return { verdict, by, doubts: walker.doubts.filter(({ would }) => would !== verdict) };
}

class Walker {
  readonly doubts: Doubt[] = [];
  #mark: number | null = 0;
  #steps = 0;

  constructor(
    private readonly chains: Chains,
    private readonly packet: Packet,
  ) {}

  through(chain: string, rules: readonly Rule[], depth: number): Outcome {
    for (const rule of rules) {
      const { matches, action } = rule;
      if (++this.#steps > STEPS || depth > DEPTH) {
        this.#doubt(chain, rule, 'decide', 'there are too many rules');
        return { end: 'return' };
      }
      const answer = allOf(matches.map((match) => match(this.packet, this.#mark)));
      if (answer === false) continue;
      if (answer !== true) {
        this.#pass(chain, rule, answer.why, depth);
        continue;
      }
      switch (action.kind) {
        case 'accept':
        case 'refuse':
          return { end: action.kind, by: { chain, rule } };
        case 'return':
          return { end: 'return' };
        case 'mark':
          if (this.#mark !== null) this.#mark = ((this.#mark & ~action.mask) ^ action.value) >>> 0;
          break;
        case 'unknown':
          this.#doubt(chain, rule, 'decide', action.why);
          break;
        case 'jump':
        case 'goto': {
          const outcome = this.through(action.chain, this.chains.get(action.chain) ?? [], depth + 1);
          if (outcome.end !== 'return' || action.kind === 'goto') return outcome;
          break;
        }
      }
    }
    return { end: 'return' };
  }

  /** A rule that matches perhaps: what it would do is found out, and the walk goes on behind it. */
  #pass(chain: string, rule: Rule, why: string, depth: number): void {
    const { action } = rule;
    switch (action.kind) {
      case 'accept':
      case 'refuse':
        this.#doubt(chain, rule, action.kind, why);
        break;
      case 'mark':
        this.#mark = null;
        break;
      case 'return':
      case 'unknown':
        this.#doubt(chain, rule, 'decide', why);
        break;
      case 'jump':
      case 'goto': {
        const mark = this.#mark;
        const outcome = this.through(action.chain, this.chains.get(action.chain) ?? [], depth + 1);
        if (this.#mark !== mark) this.#mark = null;
        if (outcome.end !== 'return') this.#doubt(chain, rule, outcome.end, why);
        else if (action.kind === 'goto') this.#doubt(chain, rule, 'decide', why);
        break;
      }
    }
  }

  #doubt(chain: string, rule: Rule, would: Doubt['would'], why: string): void {
    this.doubts.push({ chain, rule, would, why });
  }
}
