/* An engine of its own: rows of an embedding table, doubled, and their product with the table. It writes what it computes
 * with plumb_trace.h:  engine FOLDER [twice | early | text | many] (the last provoke errors, and many stages). */
#include <plumb/plumb_trace.h>

enum { kVocab = 5, kHidden = 3 };

static void trace_pass(plumb_trace *trace, const int32_t *ids, int64_t first, int64_t count) {
  float embed[8 * kHidden];
  uint16_t rounded[8 * kHidden];
  float logits[8 * kVocab];
  int64_t t, i, v;
  const int64_t embed_shape[] = {count, kHidden};
  const int64_t logits_shape[] = {count, kVocab};
  for (t = 0; t < count; ++t) {
    for (i = 0; i < kHidden; ++i) {
      const float value = (float)(ids[t] * kHidden + i);
      uint32_t bits;
      embed[t * kHidden + i] = value;
      memcpy(&bits, &value, sizeof bits);
      rounded[t * kHidden + i] = (uint16_t)(bits >> 16); /* exact: these are small integers */
    }
    for (v = 0; v < kVocab; ++v) {
      logits[t * kVocab + v] = 0;
      for (i = 0; i < kHidden; ++i) logits[t * kVocab + v] += embed[t * kHidden + i] * (float)(v * kHidden + i);
    }
  }
  plumb_trace_step(trace, first, count);
  plumb_trace_tensor(trace, "embed", PLUMB_TRACE_F32, embed, 2, embed_shape);
  plumb_trace_tensor(trace, "layers.0.residual", PLUMB_TRACE_BF16, rounded, 2, embed_shape);
  plumb_trace_tensor(trace, "layers.0.moe.ids", PLUMB_TRACE_I32, ids, 1, &count);
  plumb_trace_tensor(trace, "logits", PLUMB_TRACE_F32, logits, 2, logits_shape);
}

int main(int argc, char **argv) {
  const int32_t prompt[] = {1, 2, 3};
  const int32_t next = 4;
  const char *const what = argc > 2 ? argv[2] : "";
  const int64_t one = 1;
  plumb_trace trace;
  if (argc < 2) return 2;
  plumb_trace_begin(&trace, argv[1], "engine", "1.0", "float32");
  plumb_trace_string(&trace, "prompt", strcmp(what, "text") == 0 ? "\xC3(" : "a \"quoted\"\n\\ \xC3\xA9");
  plumb_trace_json(&trace, "model", "{\"name\": \"toy\", \"model_type\": \"llama\", \"config\": {\"vocab_size\": 5}}");
  plumb_trace_json(&trace, "stop_ids", "[0]");
  plumb_trace_prompt(&trace, prompt, 3);
  if (strcmp(what, "early") == 0) plumb_trace_tensor(&trace, "logits", PLUMB_TRACE_I32, &next, 1, &one);
  trace_pass(&trace, prompt, 0, 3);
  plumb_trace_generated(&trace, next);
  if (strcmp(what, "twice") == 0) plumb_trace_tensor(&trace, "logits", PLUMB_TRACE_I32, &next, 1, &one);
  if (strcmp(what, "many") == 0) {
    int i;
    char name[32];
    for (i = 0; i < 1000; ++i) {
      snprintf(name, sizeof name, "own.%d", i);
      plumb_trace_tensor(&trace, name, PLUMB_TRACE_I32, &i, 1, &one);
    }
  }
  trace_pass(&trace, &next, 3, 1);
  plumb_trace_generated(&trace, 4);
  if (plumb_trace_end(&trace) == 0) return 0;
  fprintf(stderr, "%s\n", trace.error);
  return 1;
}
