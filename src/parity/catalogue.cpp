#include "parity/catalogue.h"

namespace plumb {
namespace {

std::vector<CatalogueRow> before_the_network() {
  return {
      {"1", "the beginning-of-sequence token is missing",
       "ids shifted by one; every stage differs; position 0 has no sink token of large norm",
       "encode with the tokenizer's special tokens, or prepend bos_token_id", "`token_ids`"},
      {"2", "the beginning-of-sequence token is there twice",
       "ids are equal once a leading duplicate is deleted",
       "the template or the tokenizer adds it, not both: encode a rendered template without "
       "special tokens",
       "`prompt`, `token_ids`"},
      {"3", "the text is cut or merged into other tokens",
       "ids equal on plain words; they differ at digits, contractions, CJK, emoji",
       "take the pre-tokenizer pattern and the merges of the checkpoint's tokenizer.json",
       "`token_ids`"},
      {"4", "a space is added before the text, or lost after a special token",
       "one extra or merged space token behind a special token",
       "apply add_prefix_space (or Metaspace's prepend_scheme) as the tokenizer declares it, for "
       "each segment",
       "`token_ids`; as row 3 where other words change too"},
      {"5", "the chat template is rendered otherwise",
       "rendered texts differ; ids differ by a block",
       "render the checkpoint's chat_template with add_generation_prompt and its own default "
       "system text; compare the text before the ids",
       "`prompt`; as row 3 where the trace holds ids alone"},
      {"6", "the prompt was cut",
       "fewer ids than the prompt has, often exactly the context size or half of it",
       "raise the context size; make a prompt that is too long an error", "`token_ids`"},
      {"7", "the stop set lacks an id", "logits equal; one side goes on past a stop id",
       "stop at the union of eos ids in generation_config.json, config.json and the tokenizer",
       "`stop`"},
      {"8", "tokens are sampled, not the largest logit chosen",
       "teacher-forced logits within the budget; chosen tokens are not the largest",
       "compare with temperature 0, or compare logits; the network is right", "`sampler`"},
      {"9", "logprobs are of processed logits",
       "one side's logprobs are log_softmax(logits / T), or renormalised over the top k or p",
       "report logprobs of the raw logits, or say which they are",
       "`report.temperature`, `report.top_k`, `report.top_p`"},
      {"10", "seen ids are penalised before the choice",
       "only ids that were seen before are shifted, by sign",
       "set repetition, frequency and presence penalties and the logit bias to neutral",
       "`sampler`"},
      {"11", "a near tie fell the other way (no fault)",
       "the two largest logits are nearer than the logits' rounding",
       "none: compare logits, not tokens",
       "benign: a choice within the logits' rounding is no fault"},
      {"12", "speculative decoding changes the output",
       "plain decoding agrees with the reference, speculative does not",
       "verify each draft by the target's own choice; compare with speculation off first",
       "`sampler`, where a pass is fed several generated tokens and shows each row's logits"},
  };
}

std::vector<CatalogueRow> weights() {
  return {
      {"13", "a square weight is used transposed",
       "shapes fit, the output is uncorrelated with the right one",
       "y = x W^T for a weight stored [out, in]; do not decide by the shape"},
      {"14", "a fused projection is split otherwise than it is stored",
       "queries, keys and values each plausible with the right norms, and wrong",
       "split as the checkpoint interleaves: blocks, groups of heads, or head by head"},
      {"15", "gate and up are exchanged",
       "the MLP's output is garbage while gate and up look right",
       "the activation goes on gate_proj's half; in fused weights gate comes first unless the "
       "checkpoint interleaves"},
      {"16", "rows of queries and keys are in another pairing's order",
       "q before the rotation is right but for one fixed permutation of each head's rows",
       "permute the rows when converting between interleaved and half-split, or rotate as the "
       "file's order says"},
      {"17", "key-value heads are shared otherwise",
       "right where each query head has its own key head; some heads exact, head 0 always",
       "query head h reads key head h / (heads / kv_heads): repeat each, do not tile"},
      {"18", "a bias is not added", "the error is one constant vector at every token",
       "load and add the projection's bias tensor"},
      {"19", "the head is another weight", "hidden states exact, logits wrong",
       "follow tie_word_embeddings: the embedding when true, lm_head.weight when false"},
      {"20a", "bytes are read as another type",
       "magnitudes absurd: 1e-41, 1e30, or a thousandfold; subnormal numbers everywhere",
       "read the element type that the file declares; two-byte values are not halves of float32",
       "`report.bytes`; `plumb compare`"},
      {"20b", "quantised values are unpacked in another order",
       "mean and spread right, permuted within blocks of 32",
       "unpack nibbles as the format lays them out (low nibbles first half, or pairs), with its "
       "own offset"},
      {"20c", "a scale is inverted, dropped or of another extent",
       "output is the right one times a constant of the tensor, row or block",
       "multiply by the stored scale once, at the extent the format says"},
      {"20d", "the cache's scales are missing",
       "first tokens fine; the error grows with the size of the keys",
       "store and apply the scale of the eight-bit cache"},
      {"20e", "block scales are re-ordered", "magnitudes wrong by blocks, right as a set",
       "undo the kernel's own scale layout when reading the file's"},
  };
}

std::vector<CatalogueRow> norms() {
  return {
      {"21", "a norm's epsilon is another",
       "error is one factor for each row, largest where the row is small (layer 0)",
       "use rms_norm_eps of the configuration; class defaults differ"},
      {"22", "the epsilon is added outside the square root", "a small smooth factor for each row",
       "x / sqrt(mean(x^2) + eps)"},
      {"23", "the norm's weight is w for 1 + w, or the reverse",
       "ratio (1 + w) / w in each channel, the same at all tokens",
       "Gemma and Qwen3.5 store w and mean 1 + w; converters to GGUF fold the 1 in; add it once, "
       "in float32"},
      {"24", "LayerNorm in place of RMSNorm, or the reverse",
       "the error is proportional to each row's mean",
       "subtract the mean only where the model is a LayerNorm"},
      {"25", "the weight multiplies on the other side of the rounding",
       "no visible error; the share of equal bits falls from nearly all to 70 %",
       "Llama rounds x / rms first and multiplies then; Gemma multiplies in float32"},
      {"26", "a norm stands elsewhere, is left out or has another's weight",
       "huge at the norm, exact once the order is changed",
       "check pre-, post- and sandwich norms and whether the gate comes before the gated norm"},
      {"27", "the embedding is scaled otherwise",
       "one factor at stage 0; 0.1 % where it is only rounded",
       "multiply by sqrt(hidden_size) where the model does, rounded to the weights' type as the "
       "reference does"},
      {"28", "a branch or the residual stream is scaled or not added", "one factor at an addition",
       "apply residual multipliers as configured; add each branch exactly once"},
      {"29", "the final norm is missing or done twice",
       "hidden states exact, logits off by a factor for each row and channel",
       "apply the final norm once; transformers' last hidden state already has it"},
  };
}

std::vector<CatalogueRow> rotation() {
  return {
      {"30", "rotated pairs are interleaved for half-split, or the reverse",
       "position 0 exact, the error grows with the position; fluent start, then garbage",
       "pair (i, i + dims/2) for checkpoints in transformers' form, (2i, 2i+1) only where the "
       "model says so"},
      {"31", "the rotary base is another",
       "position 0 exact; error grows with position; perhaps only in some layers",
       "read rope_theta (and rope_local_base_freq of window layers) from the configuration"},
      {"32", "rotary scaling is missing or has other parameters",
       "recovered frequencies are right times 1, a ramp, or 1/factor",
       "apply rope_scaling's type with all of its parameters"},
      {"33", "the magnitude factor of YaRN is wrong",
       "rotated vectors longer than their input; position 0's logits exact",
       "multiply cos and sin by attention_factor once; see mscale and mscale_all_dim"},
      {"34", "another part of each head is rotated",
       "channels that should pass turn; agreement at position 0, then drift",
       "rotate partial_rotary_factor of the head, at the end where the model has it, and take the "
       "frequencies over the rotated part"},
      {"35", "a layer is rotated that should not be, or the reverse",
       "only every k-th layer is wrong, or all others",
       "follow no_rope_layers or layer_types; check whether counting starts at 0 or 1"},
      {"36", "positions are shifted", "a constant angle; harmless when all are shifted alike",
       "count positions from 0 at the first token, across chunks and paddings", "`positions`"},
      {"37", "frequencies or positions are in bfloat16", "tiny at first, large past 256 positions",
       "compute inverse frequencies, positions and angles in float32"},
      {"38", "multimodal sections are chunked for interleaved", "text exact, images wrong",
       "follow mrope_interleaved; text has the same position in all sections, so Plumb's text "
       "models never differ",
       "never differs: the models are run on text"},
  };
}

std::vector<CatalogueRow> attention() {
  return {
      {"39", "the norm of queries or keys is missing or over another span",
       "queries and keys of the wrong size; a factor for each row or head",
       "norm per head (Qwen3) or over all heads (OLMoE), before the rotation"},
      {"40", "scores are scaled wrongly",
       "position 0 exact; attention sharper or flatter everywhere else",
       "1/sqrt(head_dim), or query_pre_attn_scalar's, or the model's own multiplier"},
      {"41", "the scores' soft cap is missing or elsewhere",
       "only tokens with large scores are off",
       "cap * tanh(score / cap) before the mask, with attn_logit_softcapping"},
      {"42", "the window holds another number of keys",
       "exact until the window is full, then a few per cent, in window layers only",
       "a window of W holds the query's own key and W - 1 before it"},
      {"43", "the window is on the wrong layers, or ignored",
       "exact until W tokens; then full layers cut, or window layers not",
       "follow layer_types (or sliding_window_pattern)",
       "named as row 42: the window is none, or another layer's"},
      {"44", "the causal mask is off by one, or lets padding in",
       "a token depends on the one after it, or not on itself, or on how much padding stands beside its prompt",
       "query t sees keys 0 to t; mask the padding of a batch in every layer, in decode steps too", "`attend.padding`"},
      {"45", "the sinks are left out or scaled",
       "attention weights sum to 1 where they should sum to less; position 0 not exact",
       "let the sink's logit join the softmax, unscaled, without a value"},
      {"46", "a decode step sees wrong cached keys",
       "prefill exact, decode wrong from some position on",
       "check slots, ring size and eviction; compare cached keys with recomputed ones",
       "`attend.window`, `attend.future`, in a decode step"},
      {"47", "part of a latent query or key is treated as the other",
       "only the rotated part (64 of 192) is off",
       "split into unrotated and rotated part as the model orders them; norm the latent with its "
       "own epsilon",
       "named by the rows of the part: 21, 30, 34"},
      {"48", "softmax is approximated or in low precision", "ranks right, no scale fits",
       "take the exponential and the sum in float32; an approximation is reported as unexplained, with "
       "what was rejected"},
  };
}

std::vector<CatalogueRow> mlp_and_output() {
  return {
      {"49", "the activation function is another",
       "at most 5e-4 between GELU's two forms; seen in the share of equal bits",
       "follow hidden_act: gelu_pytorch_tanh is the tanh form, gelu the erf form"},
      {"50", "the gate's clamp, slope or offset is missing", "only saturated elements are off",
       "swiglu_limit (up on both sides, gate from above), alpha 1.702 and up + 1 where the model "
       "has them"},
      {"51", "softmax before the choice for after it, or renormalisation",
       "the same experts; weights off by one factor for each token",
       "follow norm_topk_prob: OLMoE keeps the softmax over all experts as it is"},
      {"52", "the router scores, biases or scales otherwise",
       "other experts at some tokens, or weights off by up to a third",
       "the correction bias chooses only; weights are the unbiased scores, times "
       "routed_scaling_factor once"},
      {"53", "the experts' down bias is not weighted", "an additive (k - 1) times the bias",
       "weight each expert's whole output, its bias included"},
      {"54", "two experts tied and the other was taken (no fault)",
       "other experts only where scores are nearer than rounding",
       "none: compare with the router's choice replaced",
       "benign: a choice within the scores' rounding is no fault"},
      {"55", "the recurrent state or its convolution is computed otherwise",
       "prefill right and decode drifts; or off from the first token by a factor",
       "hold the state in float32, decay before the write and read after it, softplus once, q and "
       "k of unit length with 1e-6, scale the query by 1/sqrt(key_dim)"},
      {"56", "the logits' soft cap or scale is missing",
       "the same largest token, other logprobs; a monotone squash",
       "apply final_logit_softcapping or logit_scale at the end, once"},
      {"57", "float16 overflows", "infinities from one layer on; tokens like !!!! or id 0",
       "compute in bfloat16 or float32 where activations pass 65504"},
      {"58", "a reduction over ranks is missing", "one shard's part of the sum is exactly there",
       "all-reduce behind row-parallel projections (o_proj, down_proj, experts)"},
      {"59", "the reference is wrong",
       "the suspect agrees with fp64 from its own inputs, the reference does not",
       "see `plumb diagnose --reference`: the side named departs; report it there",
       "the recomputation from each side's own inputs"},
      {"60", "the comparison itself is wrong",
       "a planted fault is not seen; a tolerance of percents",
       "plant a fault and see it found before trusting a pass",
       "held by the tests: each hypothesis is planted and must be found"},
  };
}

std::vector<CatalogueRow> compressed_attention() {
  return {
      {"61", "the attention output is not rotated back",
       "position 0 exact; the rotated channels of the output turn with the position",
       "rotate the last rotary channels of each head's output by minus the query's position before "
       "o_proj"},
      {"62", "a compressed block is visible too early or too late",
       "wrong only at tokens that end or begin a block; leaks the future in prefill",
       "token t sees block b when b < (t + 1) / ratio, in prefill and decode alike"},
      {"63", "the indexer scores otherwise",
       "other blocks chosen once there are more than index_topk",
       "sum over heads of weight * relu(q k), scaled by 1/sqrt(index_head_dim) and 1/sqrt(heads)"},
      {"64", "the rotation turns the wrong way", "position 0 exact; angles have the other sign",
       "queries and keys by +position, the output by -position"},
      {"65", "the compressor's position bias is left out",
       "blocks are wrong by an average that favours other tokens",
       "add position_bias to the gate's scores before the softmax over the block"},
      {"66", "the first overlapping block sees what is not there",
       "breaks at the first block's last token, right later",
       "the half before the first block counts nothing: score minus infinity"},
      {"67", "a block is rotated at another position",
       "prefill and decode drift after some hundred tokens",
       "block b at position b * ratio, its first token's"},
      {"68", "the mixing matrix is balanced another number of times",
       "rows sum to 1 and columns do not quite, or the reverse; small everywhere",
       "hc_sinkhorn_iters passes: the first of columns only, after a softmax of rows"},
      {"69", "the mixing matrix is balanced in another order",
       "the last normalised side sums to 1 exactly, the other does not",
       "softmax of rows, then columns, then rows and columns in turn"},
      {"70", "an epsilon of the hyper-connection is wrong", "small, in all streams alike",
       "hc_eps in pre, comb and the sums; rms_norm_eps in the norm of the streams"},
      {"71", "the branch's weight is not doubled",
       "one factor of 2 where the branch joins the streams", "post = 2 * sigmoid(…)"},
      {"72", "the mixing matrix is used transposed",
       "streams swap content; sums over streams stay right",
       "new stream i = sum over j of comb[j, i] * stream j as the reference orders it"},
      {"73", "the hyper-connection's input is not normalised",
       "weights of the streams saturate with depth",
       "RMS-norm all streams of a token together before the projection"},
      {"74", "the compressor's halves are exchanged",
       "blocks of overlapping layers wrong from the second on",
       "a token's first half counts in the block after its own, its second half in its own"},
      {"75", "overlapping blocks do not overlap",
       "blocks of ratio-4 layers miss half of their tokens",
       "each such block averages its own tokens and those of the block before"},
      {"76", "a hyper-connection's parameters are taken otherwise",
       "weights of the streams wrong at every token, as large as right ones",
       "rows of fn and base: pre, post, comb; one scale for each of the three; the base is added "
       "behind the scale; attn_hc around attention, ffn_hc around the MLP"},
      {"77", "the streams are collapsed otherwise",
       "the branch's input is another mixture of the same streams",
       "sum over j of (sigmoid(…) + hc_eps) * stream j, of the streams as they are, not of the "
       "normalised ones; in the head alike"},
      {"78", "the streams begin or are mixed otherwise",
       "exact while all streams are equal (layer 0), then off in all of them",
       "every stream begins as the embedding; new stream k = post[k] * branch + sum over j of "
       "comb[j, k] * stream j, with no other residual"},
      {"79", "the tokens of a compressed entry are weighed otherwise",
       "entries of the right size that favour other tokens",
       "softmax of gate + position_bias over the tokens of the block, each channel on its own"},
      {"80", "heads and groups of the output projection are dealt otherwise",
       "attention's context exact, its output uncorrelated",
       "group g reads heads g * H/G to (g + 1) * H/G - 1 through its own rows of o_a_proj; its "
       "outputs stand side by side"},
      {"81", "the table of experts is asked otherwise",
       "in hashed layers other experts at most tokens, in the others none",
       "the experts of layers below num_hash_layers are tid2eid[id of the token itself], in decode "
       "steps too; the gate's scores weight them"},
      {"82", "completed entries do not reach the list in later passes",
       "prefill right, decode forgets what is behind the window",
       "append the entry of every block that completes, with its remainder and overlap carried from "
       "pass to pass"},
  };
}

}  // namespace

const std::vector<CatalogueSection>& catalogue() {
  static const std::vector<CatalogueSection> all = {
      {"Before the network: tokens, template, sampling, stop", before_the_network()},
      {"Weights and quantisation", weights()},
      {"Norms, embedding, residual", norms()},
      {"Rotation and positions", rotation()},
      {"Attention", attention()},
      {"MLP, experts, recurrent state, output", mlp_and_output()},
      {"DeepSeek-V4: compressed attention and residual streams", compressed_attention()},
  };
  return all;
}

const CatalogueRow* find_row(std::string_view id) {
  for (const CatalogueSection& section : catalogue()) {
    for (const CatalogueRow& row : section.rows) {
      if (row.id == id) return &row;
    }
  }
  return nullptr;
}

}  // namespace plumb
