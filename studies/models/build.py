"""Tiny random models of every family of causal LMs that transformers knows, made from their configurations: no download.

A family's own defaults stay, but for sizes; what a configuration calls its sizes is listed by role, for no family in particular.
What only one family needs to be built at all is in `SPECIAL`.
"""

import inspect
import re
from collections.abc import Iterator
from typing import Any

import torch
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CLASSES

LAYERS = 4
WINDOW = 7
LENGTH = 40
SIZES: dict[int, str] = {
    384: "vocab_size vocab_size_per_layer_input",
    64: "hidden_size n_embd d_model dim embedding_size word_embed_proj_dim embed_dim out_hidden_size projection_dim emb_dim "
    "embedding_dim lru_width attention_hidden_size dim_model",
    LAYERS: "num_hidden_layers n_layer num_layers n_layers decoder_layers num_attention_heads n_head n_heads num_heads "
    "decoder_attention_heads encoder_attention_heads num_decoder_attention_heads num_encoder_attention_heads num_experts "
    "num_local_experts n_routed_experts moe_num_experts linear_num_value_heads",
    2: "num_key_value_heads num_kv_heads kv_n_heads swa_num_key_value_heads num_global_key_value_heads num_experts_per_tok "
    "moe_topk top_k num_experts_per_token moe_k top_k_experts o_groups index_n_heads linear_num_key_heads mamba_expand "
    "altup_num_inputs",
    96: "intermediate_size ffn_dim n_inner ffn_hidden_size decoder_ffn_dim encoder_ffn_dim intermediate_size_mlp ffn_size dim_ff "
    "dense_intermediate_size",
    32: "moe_intermediate_size shared_expert_intermediate_size moe_shared_expert_intermediate_size shared_intermediate_size "
    "expert_ffn_hidden_size image_size",
    1: "n_group topk_group n_shared_experts num_shared_experts moe_num_shared_experts first_k_dense_replace num_dense_layers "
    "num_expert_groups encoder_layers depth mamba_n_groups n_groups mamba_ngroups ff_factor",
    16: "q_lora_rank kv_lora_rank qk_nope_head_dim o_lora_rank index_head_dim attention_chunk_size linear_key_head_dim "
    "linear_value_head_dim mamba_d_head mamba_head_dim mamba_headdim mamba_d_state mamba_chunk_size state_size "
    "num_position_embeddings hidden_size_per_layer_input global_head_dim",
    8: "qk_rope_head_dim mamba_n_heads mamba_num_heads mamba_dt_rank laurel_rank rotary_dim",
    12: "v_head_dim",
    24: "qk_head_dim",
    128: "mamba_d_ssm",
    512: "index_topk max_position_embeddings n_positions n_ctx max_seq_len block_size context_length max_position_embedding",
    3: "conv_L_cache",
    0: "num_kv_shared_layers num_nextn_predict_layers zero_expert_num",
    256: "pad_token_id",
    257: "bos_token_id",
    258: "eos_token_id",
    259: "mask_token_id",
    300: "image_token_id image_token_index",
    301: "video_token_id",
    302: "audio_token_id",
    303: "vision_start_token_id",
    304: "vision_end_token_id",
    305: "boi_token_index boi_token_id",
    306: "eoi_token_index eoi_token_id",
}
KNOWN: dict[str, Any] = {name: size for size, names in SIZES.items() for name in names.split()}
KNOWN |= {"is_decoder": True, "dropout": 0.0, "attention_dropout": 0.0}
WINDOWS = "sliding_window swa_window sliding_window_size attention_window_size".split()
WIDTHS = "head_dim kv_channels swa_head_dim".split()
SPECIAL: dict[str, dict[str, Any]] = {
    "mamba": {"intermediate_size": 128, "time_step_rank": 8},
    "falcon_mamba": {"intermediate_size": 128, "time_step_rank": 8},
    "mamba2": {"num_heads": 8, "head_dim": 16, "intermediate_size": 128, "chunk_size": 16},
    "jamba": {
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
        "use_mamba_kernels": False,
    },
    "bamba": {"attn_layer_indices": [1, 3]},
    "falcon": {"new_decoder_architecture": True, "num_kv_heads": 2, "alibi": False},
    "qwen3_next": {"decoder_sparse_step": 1},
    "recurrent_gemma": {"block_types": ["recurrent", "recurrent", "attention"]},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]], "window_size": WINDOW},
    "ernie4_5_moe": {"moe_layer_start_index": 1, "moe_num_shared_experts": 1, "moe_intermediate_size": 32},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"] * 2, "shared_intermediate_size": 32},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "nemotron_h": {"layers_block_type": ["mamba", "attention", "mlp", "attention"]},
    "minimax": {"layer_types": ["linear_attention", "full_attention"] * 2, "block_size": 16},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "clip_qkv": None},
        "ffn_config": {"ffn_hidden_size": 96, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "reformer": {
        "attn_layers": ["local"] * 4,
        "axial_pos_embds": False,
        "attention_head_size": 16,
        "feed_forward_size": 96,
        "local_attn_chunk_length": 64,
    },
    "longcat_flash": {"num_layers": 2, "num_hidden_layers": 4},
}
# What is not drawn anew: norms, and what recurrences keep within bounds.
LEFT = re.compile(
    r"A_log|dt_bias|conv1d|\.D$|ssm|time_|_decay|mixer\.dt|lambda|rg_lru|recurrent_param|norm|ln_|layernorm|scale", re.I
)


class NotBuilt(Exception):
    """No tiny model of a family could be made; the message says why."""


def families() -> list[str]:
    """All that transformers has, by the name that a configuration gives them."""
    return sorted(CLASSES)


def configuration(family: str, head_dim: int | None, types: bool = True) -> Any:
    """A small configuration of a family.

    Args:
        family: by transformers' name.
        head_dim: width of a head, where it can be said.
        types: whether kinds of layers take turns; else as the family has them.
    """
    settings = _settings(CONFIG_MAPPING[family], SPECIAL.get(family, {}), head_dim)
    return CONFIG_MAPPING[family](**{name: value for name, value in settings.items() if types or name != "layer_types"})


def _settings(cls: Any, special: dict[str, Any], head_dim: int | None) -> dict[str, Any]:
    default = cls()
    renamed = getattr(default, "attribute_map", {}) or {}
    names = (set(renamed) | set(default.to_dict()) | set(inspect.signature(cls.__init__).parameters)).union(
        *(getattr(one, "__annotations__", {}) for one in cls.__mro__)
    )
    settings = {name: value for name, value in KNOWN.items() if name in names and name not in renamed}
    settings |= {name: WINDOW for name in WINDOWS if name in names and getattr(default, name, None)}
    fixed = {name for name in WIDTHS if isinstance(getattr(cls, name, None), property)} | set(renamed)
    settings |= {name: head_dim for name in WIDTHS if head_dim and name in names and name not in fixed}
    if "kv_lora_rank" in settings:
        settings.pop("head_dim", None)
        settings |= {name: LAYERS for name in ("num_key_value_heads",) if name in settings}
    if "layer_types" in names and getattr(default, "layer_types", None):
        kinds = list(dict.fromkeys(default.layer_types))
        settings["layer_types"] = [kinds[layer % len(kinds)] for layer in range(LAYERS)]
    for name, part in (getattr(cls, "sub_configs", {}) or {}).items():
        if name not in special and inspect.isclass(part) and hasattr(part, "from_dict"):
            try:
                settings[name] = _settings(part, {}, head_dim)
            except Exception:  # a part that cannot be made small is left as it is
                continue
    return settings | special


def build(family: str, scale: float = 0.3) -> Any:
    """A model of a family with weights so large that every head matters.

    Args:
        family: by transformers' name.
        scale: of the weights.

    Raises:
        NotBuilt: saying what went wrong with every way that was tried.
    """
    problems: dict[str, None] = {}
    for config, way in _ways(family, problems):
        try:
            torch.manual_seed(11)
            hf = AutoModelForCausalLM.from_config(config, attn_implementation=way).float().eval()
            draw(hf, scale)
            with torch.no_grad():
                logits = hf(input_ids=torch.arange(1, LENGTH)[None]).logits
            if logits.shape[:2] != (1, LENGTH - 1):
                raise ValueError(f"logits of shape {tuple(logits.shape)}")
            if scale > 0.1 and not bool(torch.isfinite(logits).all()):
                return build(family, 0.08)
            return hf
        except Exception as error:
            problems[f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:120]}"] = None
    raise NotBuilt("; ".join(problems))


def _ways(family: str, problems: dict[str, None]) -> Iterator[tuple[Any, str]]:
    for head_dim in (24, 16, None):
        for types in (True, False):
            try:
                config = configuration(family, head_dim, types)
                capped = getattr(config.get_text_config(), "attn_logit_softcapping", None)
            except Exception as error:
                problems[f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"] = None
                continue
            yield from ((config, way) for way in (("eager",) if capped else ("sdpa", "eager")))


def draw(hf: Any, scale: float) -> None:
    """Draw a model's matrices and biases from one seed."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in hf.named_parameters():
            kept = LEFT.search(".".join(name.split(".")[-2:] if parameter.ndim > 1 else [name]))
            if not parameter.is_floating_point() or kept:
                continue
            if parameter.ndim > 1:
                parameter.normal_(0, scale, generator=generator)
            elif "bias" in name:
                parameter.normal_(0, 0.1, generator=generator)
