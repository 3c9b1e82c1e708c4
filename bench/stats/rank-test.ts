/**
 * The two-sided p-value of Mann and Whitney's U test, exact: of all ways to deal the ranks out to the two series, the
 * share that looks at least as unequal. Says whether two series differ without supposing how they are distributed.
 *
 * Ties count half, as usual; with many of them the value is a little too large, never too small by much.
 */
export function rankTest(a: readonly number[], b: readonly number[]): number {
  const u = a.reduce((sum, x) => sum + b.reduce((count, y) => count + (x > y ? 1 : x === y ? 0.5 : 0), 0), 0);
  const extreme = Math.floor(Math.min(u, a.length * b.length - u));
  const ways = countWays(a.length, b.length);
  const total = ways.reduce((sum, count) => sum + count, 0);
  const tail = ways.slice(0, extreme + 1).reduce((sum, count) => sum + count, 0);
  return Math.min(1, (2 * tail) / total);
}

/** For each u: in how many orders of m and n things exactly u pairs are the wrong way round. */
function countWays(m: number, n: number): number[] {
  // coefficients of the Gaussian binomial (m + n over m), one factor (1 − q^(n+i)) / (1 − q^i) after the other
  let ways: number[] = [1];
  const size = m * n + 1;
  for (let i = 1; i <= m; i++) {
    const product = Array.from({ length: size }, (_, u) => (ways[u] ?? 0) - (ways[u - n - i] ?? 0));
    for (let u = i; u < size; u++) product[u] = (product[u] as number) + (product[u - i] as number);
    ways = product;
  }
  return ways;
}
