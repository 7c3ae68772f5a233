/* Writing a trace (docs/trace-format.md) from any engine, in C99 or C++, with nothing but this file.
 *
 *   plumb_trace trace;
 *   plumb_trace_begin(&trace, "run.trace", "my engine", "1.0", "float32");
 *   plumb_trace_prompt(&trace, ids, 3);
 *   plumb_trace_step(&trace, 0, 3);                                // before each forward pass
 *   int64_t shape[] = {3, 4, 32};                                  // tokens first
 *   plumb_trace_tensor(&trace, "layers.0.attn.q", PLUMB_TRACE_F32, q, 3, shape);
 *   plumb_trace_generated(&trace, id);
 *   if (plumb_trace_end(&trace) != 0) fprintf(stderr, "%s\n", trace.error);
 *
 * Every function returns 0, or -1 after an error: the first one stays in `error` and later calls do nothing, so it is enough
 * to look at what plumb_trace_end returns. Values go to the disk as they come. The folder must not exist; after an error what
 * was written of it is removed. One thread at a time. The machine must be little-endian, as the file format is. */
#ifndef PLUMB_TRACE_H
#define PLUMB_TRACE_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef _WIN32
#include <direct.h>
#else
#include <sys/stat.h>
#include <unistd.h>
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
  PLUMB_TRACE_F64,
  PLUMB_TRACE_F32,
  PLUMB_TRACE_F16,
  PLUMB_TRACE_BF16,
  PLUMB_TRACE_I64,
  PLUMB_TRACE_I32
} plumb_trace_dtype;

/* Text that grows; always ends in a zero byte once it holds something. */
typedef struct {
  char *text;
  size_t length;
  size_t room;
} plumb_trace_text;

typedef struct {
  char error[512];
  char folder[1024];
  FILE *values;            /* the tensors' elements, one after the other */
  uint64_t bytes;          /* of them so far */
  int64_t steps;           /* begun so far */
  plumb_trace_text about;  /* the manifest's keys but for the lists below */
  plumb_trace_text prompt, generated, passes, stages, tensors;
  char **names;            /* of the tensors of this step */
  size_t name_count, name_room;
  plumb_trace_text seen;   /* the stages listed, each between line ends */
} plumb_trace;

static inline int plumb_trace_fail(plumb_trace *trace, const char *where, const char *what) {
  if (trace->error[0] == '\0') snprintf(trace->error, sizeof trace->error, "%.300s: %.180s", where, what);
  return -1;
}

static inline int plumb_trace_append(plumb_trace *trace, plumb_trace_text *to, const char *text, size_t length) {
  if (trace->error[0] != '\0') return -1;
  if (to->room - to->length <= length) {
    const size_t room = 2 * (to->length + length) + 64;
    char *const grown = (char *)realloc(to->text, room);
    if (grown == NULL) return plumb_trace_fail(trace, trace->folder, "no memory");
    to->text = grown;
    to->room = room;
  }
  if (length > 0) memcpy(to->text + to->length, text, length);
  to->length += length;
  to->text[to->length] = '\0';
  return 0;
}

static inline int plumb_trace_print(plumb_trace *trace, plumb_trace_text *to, const char *text) {
  return plumb_trace_append(trace, to, text, strlen(text));
}

static inline int plumb_trace_print_number(plumb_trace *trace, plumb_trace_text *to, long long number) {
  char text[32];
  snprintf(text, sizeof text, "%lld", number);
  return plumb_trace_print(trace, to, text);
}

/* How many bytes the UTF-8 character at `text` has; 0 when it is none (Unicode standard, table 3-7). */
static inline int plumb_trace_character(const unsigned char *text) {
  const unsigned char a = text[0], b = a == 0 ? 0 : text[1];
  int count, i;
  if (a < 0x80) return 1;
  if (a < 0xC2 || a > 0xF4) return 0;
  count = a < 0xE0 ? 2 : a < 0xF0 ? 3 : 4;
  if ((a == 0xE0 && b < 0xA0) || (a == 0xED && b > 0x9F) || (a == 0xF0 && b < 0x90) || (a == 0xF4 && b > 0x8F)) return 0;
  for (i = 1; i < count; ++i) {
    if ((text[i] & 0xC0) != 0x80) return 0;
  }
  return count;
}

/* As it stands inside the quotes of a JSON string. */
static inline int plumb_trace_print_escaped(plumb_trace *trace, plumb_trace_text *to, const char *text) {
  const unsigned char *at = (const unsigned char *)text;
  while (*at != 0) {
    const int count = plumb_trace_character(at);
    if (count == 0) return plumb_trace_fail(trace, trace->folder, "a text is not UTF-8");
    if (*at < 0x20 || *at == '"' || *at == '\\') {
      char escaped[8];
      snprintf(escaped, sizeof escaped, "\\u%04x", *at);
      plumb_trace_print(trace, to, escaped);
    } else {
      plumb_trace_append(trace, to, (const char *)at, (size_t)count);
    }
    at += count;
  }
  return trace->error[0] == '\0' ? 0 : -1;
}

/* As a JSON string; NULL as null. */
static inline int plumb_trace_print_string(plumb_trace *trace, plumb_trace_text *to, const char *text) {
  if (text == NULL) return plumb_trace_print(trace, to, "null");
  plumb_trace_print(trace, to, "\"");
  plumb_trace_print_escaped(trace, to, text);
  return plumb_trace_print(trace, to, "\"");
}

static inline int plumb_trace_separate(plumb_trace *trace, plumb_trace_text *list) {
  return list->length > 0 ? plumb_trace_print(trace, list, ", ") : 0;
}

/* FOLDER/name; 0 when it is too long, with `error` set. */
static inline int plumb_trace_path(plumb_trace *trace, const char *name, char *path, size_t room) {
  const int length = snprintf(path, room, "%s/%s", trace->folder, name);
  if (length > 0 && (size_t)length < room) return 1;
  plumb_trace_fail(trace, name, "the folder's name is too long");
  return 0;
}

static inline void plumb_trace_forget_names(plumb_trace *trace) {
  size_t i;
  for (i = 0; i < trace->name_count; ++i) free(trace->names[i]);
  trace->name_count = 0;
}

/* Another key of the manifest, its value as JSON: "stop_ids" "[2]", "sampler" "{\"temperature\": 0.8}", "model" "{…}",
 * "prompt" a quoted text. The caller answers for its being JSON, and for giving each key once. */
static inline int plumb_trace_json(plumb_trace *trace, const char *key, const char *json) {
  plumb_trace_print(trace, &trace->about, ",\n ");
  plumb_trace_print_string(trace, &trace->about, key);
  plumb_trace_print(trace, &trace->about, ": ");
  return plumb_trace_print(trace, &trace->about, json);
}

/* The same for a key whose value is a text, quoted here: "prompt", "rendered". */
static inline int plumb_trace_string(plumb_trace *trace, const char *key, const char *text) {
  plumb_trace_json(trace, key, "");
  return plumb_trace_print_string(trace, &trace->about, text);
}

/* `dtype` is what activations are held in: "float32", "bfloat16" or "float16". */
static inline int plumb_trace_begin(plumb_trace *trace, const char *folder, const char *engine, const char *version,
                                    const char *dtype) {
  const uint16_t one = 1;
  char path[1100];
  memset(trace, 0, sizeof *trace);
  if (strlen(folder) >= sizeof trace->folder) return plumb_trace_fail(trace, folder, "the name is too long");
  if (*(const unsigned char *)&one != 1) return plumb_trace_fail(trace, folder, "this machine is not little-endian");
#ifdef _WIN32
  if (_mkdir(folder) != 0) return plumb_trace_fail(trace, folder, strerror(errno));
#else
  if (mkdir(folder, 0777) != 0) return plumb_trace_fail(trace, folder, strerror(errno));
#endif
  strcpy(trace->folder, folder); /* from here on it is ours to remove */
  if (!plumb_trace_path(trace, "tensors.unfinished", path, sizeof path)) return -1;
  trace->values = fopen(path, "w+b");
  if (trace->values == NULL) return plumb_trace_fail(trace, path, strerror(errno));
  plumb_trace_print(trace, &trace->about, "{\"format\": \"plumb-trace/1\"");
  plumb_trace_json(trace, "engine", "{\"name\": ");
  plumb_trace_print_string(trace, &trace->about, engine);
  plumb_trace_print(trace, &trace->about, ", \"version\": ");
  plumb_trace_print_string(trace, &trace->about, version);
  plumb_trace_print(trace, &trace->about, ", \"settings\": {}}");
  return plumb_trace_string(trace, "dtype", dtype);
}

/* The prompt's ids as fed. */
static inline int plumb_trace_prompt(plumb_trace *trace, const int32_t *ids, int64_t count) {
  int64_t i;
  for (i = 0; i < count; ++i) {
    plumb_trace_separate(trace, &trace->prompt);
    plumb_trace_print_number(trace, &trace->prompt, ids[i]);
  }
  return trace->error[0] == '\0' ? 0 : -1;
}

/* An id that was chosen. */
static inline int plumb_trace_generated(plumb_trace *trace, int32_t id) {
  plumb_trace_separate(trace, &trace->generated);
  return plumb_trace_print_number(trace, &trace->generated, id);
}

/* A forward pass begins, over positions first … first + count - 1. */
static inline int plumb_trace_step(plumb_trace *trace, int64_t first, int64_t count) {
  if (first < 0 || count < 1) return plumb_trace_fail(trace, trace->folder, "a step needs first >= 0 and count >= 1");
  plumb_trace_forget_names(trace);
  ++trace->steps;
  plumb_trace_separate(trace, &trace->passes);
  plumb_trace_print(trace, &trace->passes, "{\"first\": ");
  plumb_trace_print_number(trace, &trace->passes, first);
  plumb_trace_print(trace, &trace->passes, ", \"count\": ");
  plumb_trace_print_number(trace, &trace->passes, count);
  return plumb_trace_print(trace, &trace->passes, "}");
}

static inline int plumb_trace_name_stage(plumb_trace *trace, const char *stage) {
  const size_t length = strlen(stage);
  char *copy, *line;
  size_t i;
  for (i = 0; i < trace->name_count; ++i) {
    if (strcmp(trace->names[i], stage) == 0) return plumb_trace_fail(trace, stage, "was given twice in one step");
  }
  if (trace->name_count == trace->name_room) {
    const size_t room = 2 * trace->name_room + 64;
    char **const grown = (char **)realloc(trace->names, room * sizeof *grown);
    if (grown == NULL) return plumb_trace_fail(trace, stage, "no memory");
    trace->names = grown;
    trace->name_room = room;
  }
  copy = (char *)malloc(length + 3);
  if (copy == NULL) return plumb_trace_fail(trace, stage, "no memory");
  snprintf(copy, length + 3, "\n%s\n", stage);
  line = trace->seen.length > 0 ? strstr(trace->seen.text, copy) : NULL;
  if (line == NULL) {
    plumb_trace_print(trace, &trace->seen, copy);
    plumb_trace_separate(trace, &trace->stages);
    plumb_trace_print_string(trace, &trace->stages, stage);
  }
  memcpy(copy, stage, length + 1);
  trace->names[trace->name_count++] = copy;
  return 0;
}

/* What the stage yielded in this step: `axes` sizes in `shape`, tokens first, rows without gaps. */
static inline int plumb_trace_tensor(plumb_trace *trace, const char *stage, plumb_trace_dtype dtype, const void *data, int axes,
                                     const int64_t *shape) {
  static const char *const kNames[] = {"F64", "F32", "F16", "BF16", "I64", "I32"};
  static const uint64_t kSizes[] = {8, 4, 2, 2, 8, 4};
  plumb_trace_text *const out = &trace->tensors;
  uint64_t bytes;
  int i;
  if (trace->error[0] != '\0') return -1;
  if (trace->steps == 0) return plumb_trace_fail(trace, stage, "comes before the first step");
  if ((int)dtype < 0 || (int)dtype > PLUMB_TRACE_I32) return plumb_trace_fail(trace, stage, "its dtype is not known");
  bytes = kSizes[dtype];
  for (i = 0; i < axes; ++i) {
    if (shape[i] < 0 || (shape[i] > 0 && bytes > (uint64_t)INT64_MAX / (uint64_t)shape[i]))
      return plumb_trace_fail(trace, stage, "its shape is not possible");
    bytes *= (uint64_t)shape[i];
  }
  if (bytes > (uint64_t)SIZE_MAX || strchr(stage, '\n') != NULL) return plumb_trace_fail(trace, stage, "is not possible");
  if (plumb_trace_name_stage(trace, stage) != 0) return -1;
  plumb_trace_print(trace, out, ", \"");
  plumb_trace_print_number(trace, out, trace->steps - 1);
  plumb_trace_print(trace, out, "/");
  plumb_trace_print_escaped(trace, out, stage);
  plumb_trace_print(trace, out, "\": {\"dtype\": \"");
  plumb_trace_print(trace, out, kNames[dtype]);
  plumb_trace_print(trace, out, "\", \"shape\": [");
  for (i = 0; i < axes; ++i) {
    if (i > 0) plumb_trace_print(trace, out, ", ");
    plumb_trace_print_number(trace, out, shape[i]);
  }
  plumb_trace_print(trace, out, "], \"data_offsets\": [");
  plumb_trace_print_number(trace, out, (long long)trace->bytes);
  plumb_trace_print(trace, out, ", ");
  trace->bytes += bytes;
  plumb_trace_print_number(trace, out, (long long)trace->bytes);
  plumb_trace_print(trace, out, "]}");
  if (bytes > 0 && fwrite(data, 1, (size_t)bytes, trace->values) != (size_t)bytes)
    return plumb_trace_fail(trace, stage, strerror(errno));
  return trace->error[0] == '\0' ? 0 : -1;
}

static inline int plumb_trace_copy_values(plumb_trace *trace, FILE *to) {
  char block[65536];
  size_t count;
  rewind(trace->values);
  while ((count = fread(block, 1, sizeof block, trace->values)) > 0) {
    if (fwrite(block, 1, count, to) != count) return plumb_trace_fail(trace, trace->folder, strerror(errno));
  }
  return ferror(trace->values) ? plumb_trace_fail(trace, trace->folder, strerror(errno)) : 0;
}

/* The tensors: the header's length, the header padded with spaces to 8 bytes, the elements (safetensors, tensor.rs). */
static inline int plumb_trace_write_tensors(plumb_trace *trace) {
  plumb_trace_text header = {NULL, 0, 0};
  char path[1100];
  FILE *file;
  plumb_trace_print(trace, &header, "{\"__metadata__\": {}");
  plumb_trace_append(trace, &header, trace->tensors.text, trace->tensors.length);
  plumb_trace_print(trace, &header, "}");
  while (trace->error[0] == '\0' && header.length % 8 != 0) plumb_trace_print(trace, &header, " ");
  if (trace->error[0] == '\0' && plumb_trace_path(trace, "tensors.safetensors", path, sizeof path)) {
    file = fopen(path, "wb");
    if (file == NULL) {
      plumb_trace_fail(trace, path, strerror(errno));
    } else {
      const uint64_t length = header.length;
      if (fwrite(&length, sizeof length, 1, file) != 1 || fwrite(header.text, 1, header.length, file) != header.length)
        plumb_trace_fail(trace, path, strerror(errno));
      if (trace->error[0] == '\0') plumb_trace_copy_values(trace, file);
      if (fclose(file) != 0) plumb_trace_fail(trace, path, strerror(errno));
    }
  }
  free(header.text);
  return trace->error[0] == '\0' ? 0 : -1;
}

static inline void plumb_trace_put_list(FILE *file, const char *key, const plumb_trace_text *list) {
  fprintf(file, ",\n \"%s\": [%s]", key, list->length > 0 ? list->text : "");
}

static inline int plumb_trace_write_manifest(plumb_trace *trace) {
  char path[1100];
  FILE *file;
  int bad;
  if (!plumb_trace_path(trace, "manifest.json", path, sizeof path)) return -1;
  file = fopen(path, "wb");
  if (file == NULL) return plumb_trace_fail(trace, path, strerror(errno));
  fputs(trace->about.text, file);
  plumb_trace_put_list(file, "token_ids", &trace->prompt);
  plumb_trace_put_list(file, "generated", &trace->generated);
  plumb_trace_put_list(file, "steps", &trace->passes);
  plumb_trace_put_list(file, "stages", &trace->stages);
  fputs("}\n", file);
  bad = ferror(file);
  bad |= fclose(file) != 0;
  return bad ? plumb_trace_fail(trace, path, "cannot be written") : 0;
}

static inline void plumb_trace_remove(plumb_trace *trace, const char *name) {
  char path[1100];
  if (plumb_trace_path(trace, name, path, sizeof path)) remove(path);
}

/* Completes the folder and gives everything back; to be called once after plumb_trace_begin, whatever it returned. */
static inline int plumb_trace_end(plumb_trace *trace) {
  if (trace->error[0] == '\0') plumb_trace_write_tensors(trace);
  if (trace->error[0] == '\0') plumb_trace_write_manifest(trace);
  if (trace->values != NULL) fclose(trace->values);
  if (trace->folder[0] != '\0') {
    plumb_trace_remove(trace, "tensors.unfinished");
    if (trace->error[0] != '\0') {
      plumb_trace_remove(trace, "tensors.safetensors");
      plumb_trace_remove(trace, "manifest.json");
#ifdef _WIN32
      _rmdir(trace->folder);
#else
      rmdir(trace->folder);
#endif
    }
  }
  plumb_trace_forget_names(trace);
  free(trace->names);
  free(trace->about.text);
  free(trace->prompt.text);
  free(trace->generated.text);
  free(trace->passes.text);
  free(trace->stages.text);
  free(trace->tensors.text);
  free(trace->seen.text);
  return trace->error[0] == '\0' ? 0 : -1;
}

#ifdef __cplusplus
}
#endif

#endif
