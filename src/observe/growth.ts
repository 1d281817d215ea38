/**
 * What each of somebody else's running totals has grown by since the last call. A total that is smaller than it was has
 * begun anew from 0, as an engine's do when it is started again.
 */
export function growth<Name extends string>(): (
  totals: Readonly<Record<Name, number>>,
) => Record<Name, number> {
  let last: Partial<Record<Name, number>> = {};
  return totals => {
    const before = last;
    last = totals;
    const grown = (Object.entries(totals) as [Name, number][]).map(([name, now]) => {
      const then = before[name] ?? 0;
      return [name, now < then ? now : now - then];
    });
    return Object.fromEntries(grown) as Record<Name, number>;
  };
}
