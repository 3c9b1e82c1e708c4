/** How containers are joined to the network, by Docker's words for it (`docker run --network …`). */
import { LabOptionError } from './errors.js';

/**
 * `bridge`: a network of its own on the host's bridge. `none`: one of its own with nothing in it but the loopback device. `host`: the
 * host's own network. `container`: that of another container, which the two then share.
 */
export type NetworkMode =
  | { readonly kind: 'bridge' | 'none' | 'host' }
  | { readonly kind: 'container'; readonly of: string };

const bridge: NetworkMode = { kind: 'bridge' };

/** The mode of a container of every host: the last word that names it, or else the last that names none. */
export function modeOf(words: readonly string[] | undefined, container: string): NetworkMode {
  const rules = (words ?? []).map(parseRule);
  const rule = rules.findLast(({ name }) => name === container) ?? rules.findLast(({ name }) => name === null);
  return rule?.mode ?? bridge;
}

function parseRule(word: string): { readonly name: string | null; readonly mode: NetworkMode } {
  const [, name = null, text = ''] = /^(?:(c[1-9]\d*)=)?(.*)$/.exec(word) ?? [];
  if (text === 'bridge' || text === 'none' || text === 'host') return { name, mode: { kind: text } };
  const [, of] = /^container:(c[1-9]\d*)$/.exec(text) ?? [];
  if (of !== undefined) return { name, mode: { kind: 'container', of } };
  throw new LabOptionError(
    `mode "${word}" is none; write bridge, none, host or container:c1, for one container behind its name: c2=host`,
  );
}

/** As it is written. */
export function formatMode(mode: NetworkMode): string {
  return mode.kind === 'container' ? `container:${mode.of}` : mode.kind;
}

/** @param containers the names of a host's containers. @throws LabOptionError for a mode that leads nowhere */
export function checkModes(words: readonly string[], containers: readonly string[]): void {
  for (const { name } of words.map(parseRule)) {
    if (name === null || containers.includes(name)) continue;
    throw new LabOptionError(
      `mode is given for ${name}, and there is no such container; there are ${containers.join(', ')}`,
    );
  }
  for (const name of containers) {
    const mode = modeOf(words, name);
    if (mode.kind !== 'container') continue;
    const hasOwn = containers.includes(mode.of) && ['bridge', 'none'].includes(modeOf(words, mode.of).kind);
    if (mode.of === name || !hasOwn) {
      throw new LabOptionError(
        `${name} cannot share the network of ${mode.of}; name a container that has one of its own`,
      );
    }
  }
}
