"""The backbone in transformers, and PEFT's methods around it."""
import copy
import functools
from pathlib import Path

import torch
from peft import LoraConfig, PrefixTuningConfig, PromptEncoderConfig, PromptTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM
from transformers.utils import logging

logging.disable_progress_bar()

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@functools.cache
def read(gguf):
    """The GGUF file's numbers in fp32, as a model that knows of no quantisation."""
    source = Path(gguf)
    quantised = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
    config = quantised.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.use_cache = False
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(quantised.state_dict())
    return model


def load(gguf, dtype):
    """A frozen backbone of the caller's own: PEFT changes what it wraps."""
    return copy.deepcopy(read(gguf)).to(getattr(torch, dtype)).requires_grad_(False)


def wrap(model, method, length, start=None):
    """`prompt` begins as the embeddings of `start` (what PEFT does with a text), the others as PEFT has them begin."""
    kind = {"task_type": "CAUSAL_LM", "num_virtual_tokens": length}
    match method:
        case "prompt":
            peft = get_peft_model(model, PromptTuningConfig(**kind))
            if start:
                table = model.get_input_embeddings().weight
                with torch.no_grad():
                    peft.prompt_encoder["default"].embedding.weight.copy_(table[torch.tensor(start)].float())
            return peft
        case "prefix":
            return get_peft_model(model, PrefixTuningConfig(**kind))
        case "ptuning":
            return get_peft_model(model, PromptEncoderConfig(**kind, encoder_hidden_size=model.config.hidden_size))
        case "lora":
            return get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, target_modules=LINEAR))
    raise ValueError(method)


def positions(peft):
    """Virtual tokens that stand before a row in what the model returns: prefixes are no positions of it."""
    config = peft.active_peft_config
    return config.num_virtual_tokens if config.peft_type in ("PROMPT_TUNING", "P_TUNING") else 0


def optimiser(peft, rate):
    trained = [each for each in peft.parameters() if each.requires_grad]
    return torch.optim.AdamW(trained, lr=rate, weight_decay=0.0), trained


@torch.inference_mode()
def keys_and_values(peft):
    """What a trained prompt compiles to, `[1, heads, P, head_dim]` a layer, so that answering costs no virtual token."""
    config = peft.active_peft_config
    if not config.is_prompt_learning:
        return []
    prompt = peft.get_prompt(1)
    if config.peft_type != "PREFIX_TUNING":
        inputs = prompt.to(peft.get_base_model().dtype)
        prompt = peft.get_base_model()(inputs_embeds=inputs, use_cache=True, logits_to_keep=1).past_key_values
    return [(layer.keys, layer.values) for layer in prompt.layers]
