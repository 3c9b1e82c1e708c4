/** One run of the benchmark: from the settings to the results. */
import os from 'node:os';
import { cpuOfOthers, machineTime } from './harness/cpu.js';
import { busyCpus, describeMachine } from './harness/machine.js';
import type { Progress } from './harness/progress.js';
import {
  type ContenderInfo,
  type Failure,
  type MeasurementInfo,
  type Results,
  type Sample,
  SCHEMA,
} from './harness/results.js';
import { plannedSteps, runRounds } from './harness/rounds.js';
import { claimMachine, Site } from './network/site.js';
import { crossingsSuite } from './suites/crossings.js';
import { familiesSuite } from './suites/families.js';
import { handshakesSuite } from './suites/handshakes.js';
import { ladderSuite } from './suites/ladder.js';
import { latencySuite } from './suites/latency.js';
import { peersSuite } from './suites/peers.js';
import { restartSuite } from './suites/restart.js';
import { scaleSuite } from './suites/scale.js';
import { type Settings, type Suite, type SuiteContext, type SuitePlan, selectPlans } from './suites/suite.js';
import { throughputSuite } from './suites/throughput.js';

/** A second without us tells what others do. */
const QUIET_MS = 1000;

/** In the order in which they run and are reported. */
export const suiteIds = [
  'crossings',
  'ladder',
  'throughput',
  'latency',
  'families',
  'peers',
  'handshakes',
  'scale',
  'restart',
] as const;
export type SuiteId = (typeof suiteIds)[number];

/** A suite whose places nobody else has to know. */
interface RunnableSuite {
  readonly id: string;
  plans(settings: Settings): readonly SuitePlan<never>[];
  run(run: Collector, context: SuiteContext): Promise<void>;
}

/** What a run gathers, and how it is told to stop. */
interface Collector {
  readonly contenders: Map<string, ContenderInfo>;
  readonly measurements: Map<string, MeasurementInfo>;
  readonly samples: Sample[];
  readonly failures: Failure[];
  readonly signal: AbortSignal;
  now(): number;
}

function runnable<Place>(suite: Suite<Place>): RunnableSuite {
  return {
    id: suite.id,
    plans: (settings) => selectPlans(suite, settings) as readonly SuitePlan<unknown>[] as readonly SuitePlan<never>[],
    async run(run, context) {
      const plans = selectPlans(suite, context.settings);
      if (plans.length === 0) return;
      const stage = await suite.open(context);
      for (const contender of stage.contenders) run.contenders.set(contender.id, contender);
      for (const plan of plans) {
        if (run.signal.aborted) return;
        for (const { id, title, metrics } of plan.measurements) {
          run.measurements.set(`${suite.id}/${id}`, { suite: suite.id, id, title, metrics });
        }
        await stage.prepare?.(plan);
        const { progress } = context;
        const result = await runRounds(plan, stage.places, { progress, signal: run.signal, now: run.now });
        run.samples.push(...result.samples);
        run.failures.push(...result.failures);
      }
    },
  };
}

function makeSuites(site: Site): readonly RunnableSuite[] {
  return [
    runnable(crossingsSuite),
    runnable(ladderSuite(site)),
    runnable(throughputSuite(site)),
    runnable(latencySuite(site)),
    runnable(familiesSuite(site)),
    runnable(peersSuite(site)),
    runnable(handshakesSuite),
    runnable(scaleSuite),
    runnable(restartSuite),
  ];
}

/** What a run with these settings would measure. */
export function plansOf(suites: readonly string[], settings: Settings): readonly SuitePlan<never>[] {
  return makeSuites(new Site())
    .filter(({ id }) => suites.includes(id))
    .flatMap((suite) => suite.plans(settings));
}

/** How many steps a run with these settings would have, and how long it would take, in seconds. */
export function planRun(suites: readonly string[], settings: Settings): { steps: number; seconds: number } {
  const planned = plansOf(suites, settings).map(plannedSteps);
  return {
    steps: planned.reduce((sum, { steps }) => sum + steps, 0),
    seconds: planned.reduce((sum, { seconds }) => sum + seconds, 0),
  };
}

/**
 * Measures everything and takes everything down again, however it ends.
 *
 * @param signal when it fires, the measurement under way is given up and the finished rounds are returned
 */
export async function runBenchmark(
  suites: readonly string[],
  settings: Settings,
  { progress, signal }: { readonly progress: Progress; readonly signal: AbortSignal },
): Promise<Results> {
  const deferred: (() => Promise<void>)[] = [];
  const defer = (work: () => Promise<void>) => deferred.push(work);
  const startedAt = new Date();
  const started = performance.now();
  const now = () => Math.round(performance.now() - started);
  const contenders = new Map<string, ContenderInfo>();
  const measurements = new Map<string, MeasurementInfo>();
  const run: Collector = { contenders, measurements, samples: [], failures: [], signal, now };
  try {
    defer(await claimMachine());
    const site = new Site();
    defer(() => site.close());
    const machine = await describeMachine();
    const loadAverage = os.loadavg();
    const busyBefore = await busyCpus(QUIET_MS);
    const before = { time: await machineTime(), others: await cpuOfOthers() };
    const { steps, seconds } = planRun(suites, settings);
    progress.begin(steps, seconds);
    for (const suite of makeSuites(site).filter(({ id }) => suites.includes(id))) {
      if (!signal.aborted) await suite.run(run, { settings, progress, signal, defer });
    }
    const elapsed = (performance.now() - started) / 1000;
    const after = { time: await machineTime(), others: await cpuOfOthers() };
    return {
      schema: SCHEMA,
      startedAt: startedAt.toISOString(),
      seconds: elapsed,
      complete: !signal.aborted,
      options: { suites, ...settings },
      machine,
      quietness: {
        busyBefore,
        loadAverage,
        stolen: (after.time.stolen - before.time.stolen) / (elapsed * machine.cpus),
        others: Math.max(0, after.others - before.others) / elapsed,
      },
      contenders: [...contenders.values()],
      measurements: [...measurements.values()],
      samples: run.samples,
      failures: run.failures,
    };
  } finally {
    progress.end();
    for (const work of deferred.reverse()) await work();
  }
}
