"""The backbone in transformers, and PEFT's methods around it."""
from pathlib import Path

import torch
from peft import LoraConfig, PrefixTuningConfig, PromptEncoderConfig, PromptTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def load(gguf, dtype):
    """The GGUF file's numbers in a data type; dequantised by transformers once, then kept beside the environment."""
    source = Path(gguf)
    folder = Path(__file__).parent / ".venv" / f"{source.stem}-transformers"
    if not (folder / "config.json").exists():
        model = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
        model.save_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    model.config.use_cache = False
    return model.requires_grad_(False)


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
