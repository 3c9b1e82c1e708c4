import * as Plot from '@observablehq/plot';
import { parseHTML } from 'linkedom';

export { Plot };

/** Drawn so wide, in CSS pixels; narrower screens scale it down, and the letters stay readable on a phone. */
export const WIDTH = 560;
const FONT = 13;

/**
 * Renders a plot to HTML with inline SVG, in Node: Plot needs a document to make elements in, and linkedom is one.
 *
 * @param label what the picture shows, for those who cannot see it
 */
export function renderPlot(label: string, options: Plot.PlotOptions): string {
  const { document } = parseHTML('<!doctype html><html><body></body></html>');
  const plot = Plot.plot({
    width: WIDTH,
    marginBottom: 45,
    ...options,
    document: document as never,
    ariaLabel: label,
    style: { fontSize: `${FONT}px`, background: 'transparent', overflow: 'visible' },
  });
  return plot.outerHTML;
}
