import { ensurePython } from "../../bench/peers/python.ts";

/** Docker Compose, Kubernetes' schemas and hadolint are fetched once, which no test's time limit should count. */
export default function setup(): void {
  ensurePython("requirements-deploy.txt");
}
