import { openEmbeddedJobs } from "../../src/jobs/embedded.ts";
import { jobsContract } from "./contract.ts";

jobsContract("the embedded queue", (registry, runner, concurrency) =>
  openEmbeddedJobs({ registry, runner, concurrency, log: { error: () => {} } }),
);
