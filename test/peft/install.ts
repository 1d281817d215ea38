import { ensurePython } from "../../bench/peers/python.ts";

/** PEFT, transformers and torch are fetched once, which no test's time limit should count. */
export default function setup(): void {
  ensurePython("requirements-training.txt");
}
