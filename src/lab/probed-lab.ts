import type { ChildProcess } from 'node:child_process';
import { containerAddresses, type HostSubnet } from './containers.js';
import { type MatrixPlace, type MatrixResult, type MatrixSettings, runMatrix } from './matrix.js';
import { Probe } from './probe/client.js';

/** Container N has the Nth address behind the bridge's. */
export interface NumberedContainer {
  readonly name: string;
  readonly number: number;
}

/** What every lab does with its probes, wherever they run. */
export abstract class ProbedLab {
  readonly #probes = new Map<string, Probe>();

  protected abstract startProbe(place: string): ChildProcess;

  /** Every host with its subnet, and the containers on its bridge, by the numbers of their addresses. */
  abstract layout(): AsyncIterable<{
    host: string;
    subnet: HostSubnet;
    containers: readonly NumberedContainer[];
  }>;

  /** The probe of a place; started when it is first asked for, and again after it was lost; ended by `close`. */
  probe(place: string): Probe {
    let probe = this.#probes.get(place);
    if (probe === undefined) {
      const child = this.startProbe(place);
      child.once('close', () => this.#probes.delete(place));
      probe = new Probe(place, child);
      this.#probes.set(place, probe);
    }
    return probe;
  }

  /** Checks every ordered pair of the containers behind the hosts. */
  async test(settings: MatrixSettings = {}): Promise<MatrixResult> {
    const places: MatrixPlace[] = [];
    for await (const { host, subnet, containers } of this.layout()) {
      for (const container of containers) {
        const name = `${host}/${container.name}`;
        places.push({ name, addresses: containerAddresses(subnet, container.number), probe: this.probe(name) });
      }
    }
    return runMatrix(places, settings);
  }

  /** Ends the probes of this object; the lab itself stays up. */
  async close(): Promise<void> {
    const probes = [...this.#probes.values()];
    this.#probes.clear();
    await Promise.allSettled(probes.map((probe) => probe.close()));
  }
}
