import { LabError, LabPlaceError } from './errors.js';

/** The lab that commands mean when no `--name` is given. */
export const defaultLabName = 'tweed';

/** The namespaces that every lab has besides its hosts' and containers'. */
export const fixedPlaces = ['switch', 'internet', 'etcd'] as const;

/** A place of a lab that has a network namespace of its own. */
export type Place =
  | { readonly kind: (typeof fixedPlaces)[number] }
  | { readonly kind: 'host'; readonly host: string }
  | { readonly kind: 'container'; readonly host: string; readonly container: string };

/** One published port, as Docker's `-p` makes it. */
export interface Publication {
  readonly host: string;
  readonly hostPort: number;
  readonly targetHost: string;
  readonly targetContainer: string;
  readonly targetPort: number;
}

/** Namespace names are `<lab>-<place>`; the pattern below must tell one lab's from every other lab's. */
export function checkLabName(name: string): string {
  if (!/^[a-z][a-z0-9-]{0,30}$/.test(name)) {
    throw new LabError(
      'LAB_NAME',
      `"${name}" cannot be a lab's name; use at most 31 lower-case letters, digits and dashes, a letter first`,
    );
  }
  return name;
}

export function hostName(number: number): string {
  return `host${number}`;
}

export function containerName(number: number): string {
  return `c${number}`;
}

export function namespaceOf(lab: string, place: Place): string {
  switch (place.kind) {
    case 'host':
      return `${lab}-${place.host}`;
    case 'container':
      return `${lab}-${place.host}-${place.container}`;
    default:
      return `${lab}-${place.kind}`;
  }
}

/** Is this namespace one of the lab's? True for leftovers of a half-made lab too. */
export function belongsTo(lab: string, namespace: string): boolean {
  return (
    namespace.startsWith(`${lab}-`) &&
    /^(switch|internet|etcd|host[1-9]\d*(-c[1-9]\d*)?)$/.test(namespace.slice(lab.length + 1))
  );
}

/** Parses what people type: `host1`, `host1/c2`, `internet`, `etcd` or `switch`. */
export function parsePlace(text: string): Place {
  const match = /^(host[1-9]\d*)(?:\/(c[1-9]\d*))?$/.exec(text);
  if (match !== null) {
    const [, host, container] = match as unknown as [string, string, string | undefined];
    return container === undefined ? { kind: 'host', host } : { kind: 'container', host, container };
  }
  for (const kind of fixedPlaces) if (text === kind) return { kind };
  throw new LabPlaceError(
    `"${text}" is no place of a lab; name a host (host1), a container (host1/c1), or one of ${fixedPlaces.join(', ')}`,
  );
}

export function formatPlace(place: Place): string {
  if (place.kind === 'host') return place.host;
  return place.kind === 'container' ? `${place.host}/${place.container}` : place.kind;
}

/** Parses what `lab unpublish` takes: `host1:8080`. */
export function parsePublishedPort(text: string): { readonly host: string; readonly number: number } {
  const [, host, port] = /^(host[1-9]\d*):(\d{1,5})$/.exec(text) ?? [];
  if (host === undefined || Number(port) < 1 || Number(port) > 65_535) {
    throw new LabError('LAB_PUBLISH', `"${text}" is no published port; write HOST:PORT, such as host1:8080`);
  }
  return { host, number: Number(port) };
}

/** Parses the two words of `lab publish`: `host1:8080` and `host2/c1:80`. */
export function parsePublication(from: string, to: string): Publication {
  const source = /^(host[1-9]\d*):(\d{1,5})$/.exec(from);
  const target = /^(host[1-9]\d*)\/(c[1-9]\d*):(\d{1,5})$/.exec(to);
  const ports = [Number(source?.[2]), Number(target?.[3])];
  if (source === null || target === null || ports.some((port) => port < 1 || port > 65_535)) {
    throw new LabError(
      'LAB_PUBLISH',
      `cannot publish "${from}" "${to}"; write HOST:PORT HOST/CONTAINER:PORT, such as host1:8080 host1/c1:80`,
    );
  }
  return {
    host: source[1],
    hostPort: ports[0],
    targetHost: target[1],
    targetContainer: target[2],
    targetPort: ports[1],
  };
}
