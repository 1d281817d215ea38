import { basename, join, resolve } from "node:path";
import { openSafetensors, type SafetensorsFile } from "../tensor/safetensors.ts";
import { bindTensors } from "./bind.ts";
import { fingerprintOf } from "./fingerprint.ts";
import { huggingFaceConfig } from "./huggingface-config.ts";
import { huggingFaceTokenizer } from "./huggingface-tokenizer.ts";
import { readJson } from "./json-file.ts";
import { badBackbone } from "./settings.ts";
import type { BackboneSource } from "./source.ts";

/** A backbone in a Hugging Face directory: config.json and model.safetensors, in one file or in shards. */
export async function openHuggingFaceBackbone(directory: string): Promise<BackboneSource> {
  const json = await readJson(directory, "config.json");
  if (json === null)
    return badBackbone(
      `${directory} has no config.json: give a Hugging Face model's directory, or a GGUF file.`,
    );
  const config = huggingFaceConfig(json, join(directory, "config.json"));
  const shards = await openShards(directory, await readJson(directory, "model.safetensors.index.json"));
  const close = async () => {
    await Promise.all(shards.map(shard => shard.close()));
  };
  try {
    const home = new Map(shards.flatMap(shard => [...shard.tensors.keys()].map(name => [name, shard])));
    const info = (name: string) => home.get(name)!.tensors.get(name)!;
    const bound = bindTensors(config, {
      where: directory,
      names: canonicalNames(home.keys(), directory),
      nameOf: tensor => tensor.name,
      dimsOf: name => info(name).dims,
      storedDims: tensor => tensor.dims,
      ignored: name => isBuffer(name) || (config.tiedEmbedding && name === "lm_head.weight"),
    });
    const stored = [...home].map(([name, shard]) => ({
      name,
      dims: info(name).dims,
      byteLength: info(name).byteLength,
      readBytes: (offset: number, length: number) => shard.readBytes(name, offset, length),
    }));
    return {
      name: basename(resolve(directory)),
      config,
      tensors: new Map([...bound].map(([name, { dims }]) => [name, dims])),
      read: async name => {
        const tensor = bound.get(name) ?? badBackbone(`${directory} has no tensor ${name}.`);
        return home.get(tensor.stored)!.read(tensor.stored);
      },
      tokenizerFiles: () => huggingFaceTokenizer(directory),
      fingerprint: fingerprintOf(stored),
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Stored names by canonical ones: checkpoints without the output projection may leave "model." or "transformer." out. */
function canonicalNames(stored: Iterable<string>, where: string): Map<string, string> {
  const names = new Map<string, string>();
  for (const name of stored) {
    const canonical = name.replace(/^(model|transformer)\./, "");
    const twin = names.get(canonical);
    if (twin !== undefined)
      badBackbone(
        `${where}: ${twin} and ${name} are one tensor, which is there twice. Download the backbone again, or choose another.`,
      );
    names.set(canonical, name);
  }
  return names;
}

/** Masks and tables that older checkpoints store although they are computed. */
const isBuffer = (name: string) =>
  name.endsWith("rotary_emb.inv_freq") || /^h\.\d+\.attn\.(masked_)?bias$/.test(name);

/** model.safetensors, or the files that the index names. */
async function openShards(directory: string, index: Readonly<Record<string, unknown>> | null) {
  const files = index === null ? ["model.safetensors"] : shardNames(index.weight_map, directory);
  const shards: SafetensorsFile[] = [];
  try {
    for (const file of files) shards.push(await openSafetensors(join(directory, file)));
    const seen = new Set<string>();
    for (const name of shards.flatMap(shard => [...shard.tensors.keys()])) {
      if (seen.has(name)) badBackbone(`${directory}: tensor ${name} is in two files.`);
      seen.add(name);
    }
    return shards;
  } catch (error) {
    await Promise.all(shards.map(shard => shard.close()));
    throw error;
  }
}

function shardNames(map: unknown, directory: string): string[] {
  const files = typeof map === "object" && map !== null ? [...new Set(Object.values(map))] : [];
  const sound = files.every(
    (file): file is string => typeof file === "string" && /^[^/\\]+\.safetensors$/.test(file),
  );
  if (files.length === 0 || !sound) {
    return badBackbone(`${directory}: weight_map of model.safetensors.index.json must name files beside it.`);
  }
  return files;
}
