import { readdirSync, readFileSync } from "node:fs";

/** Proportional set size of a process in bytes: what is shared is counted in shares (proc(5), smaps_rollup). */
export function pss(pid: number): number {
  const line = /^Pss:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"));
  return Number(line![1]) * 1024;
}

/** The largest PSS while `work` runs, looked at every 50 ms. */
export async function peakPss(pid: number, work: Promise<unknown>): Promise<number> {
  let peak = 0;
  const look = () => {
    peak = Math.max(peak, pss(pid));
  };
  const timer = setInterval(look, 50);
  await work;
  look();
  clearInterval(timer);
  return peak;
}

/** The newest child process, or null. */
export function childOf(pid: number): number | null {
  const threads = readdirSync(`/proc/${pid}/task`);
  const children = threads.flatMap(thread =>
    readFileSync(`/proc/${pid}/task/${thread}/children`, "utf8").split(" ").filter(Boolean).map(Number),
  );
  return children.length > 0 ? Math.max(...children) : null;
}

/** Processor time of a process since it began, in seconds (proc(5), stat: fields 14 and 15, in hundredths). */
export function cpuSeconds(pid: number): number {
  const status = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = status.slice(status.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}
