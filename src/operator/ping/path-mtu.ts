/**
 * The largest packet that a path carries, found by halving.
 *
 * One size after the other: packets that are sent side by side may travel as one segmented send, which devices of virtual
 * machines and containers pass on whole, whatever their MTU.
 *
 * @param low passes
 * @param high does not
 * @param hint what the answer may be, such as the MTU that a router named: it is tried first
 */
export async function largestPassing(
  low: number,
  high: number,
  hint: number | null,
  passes: (size: number) => Promise<boolean>,
): Promise<number> {
  let [good, bad] = [low, high];
  const first = hint === null ? [] : [hint, hint + 1];
  while (bad - good > 1) {
    const wanted = first.shift();
    if (wanted !== undefined && (wanted <= good || wanted >= bad)) continue;
    const size = wanted ?? Math.floor((good + bad) / 2);
    if (await passes(size)) good = size;
    else bad = size;
  }
  return good;
}
