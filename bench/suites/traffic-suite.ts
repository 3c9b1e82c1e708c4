import type { Site } from '../network/site.js';
import type { Settings, Suite, SuiteContext, SuitePlan } from './suite.js';
import { selectPlans } from './suite.js';
import type { Place } from './traffic.js';

/** A suite whose contenders stand in the shared site. */
export function trafficSuite(
  site: Site,
  id: string,
  title: string,
  plans: (settings: Settings) => readonly SuitePlan<Place>[],
): Suite<Place> {
  const suite: Suite<Place> = {
    id,
    title,
    plans,
    async open({ settings, progress, signal }: SuiteContext) {
      const ids = new Set(selectPlans(suite, settings).flatMap(({ contenders }) => contenders));
      return {
        ...(await site.open([...ids], progress, signal)),
        prepare: (plan) => site.setUnderlay(plan.underlay === 'segmented' ? 'segmented' : 'whole'),
      };
    },
  };
  return suite;
}
