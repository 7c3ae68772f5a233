"""The corpus of hostile files (hostile_files.py): each ends the program with exit code 1 and exactly its one sentence.

What they claim costs nothing: the program stays below the memory that the machine gives it here, whatever a file says.
"""
import json
import os
import resource
import subprocess

import hostile_files as corpus
import pytest
from hostile_sentences import SENTENCES

SECONDS = 20
BYTES = 1 << 30  # of address space; a claim of 2^40 elements that is believed ends otherwise


@pytest.fixture
def refuses(plumb_binary):
    def check(group, name, where, *arguments):
        def limited():
            if not os.environ.get("ASAN_OPTIONS"):
                resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
        done = subprocess.run([plumb_binary, *map(str, arguments)], capture_output=True, timeout=SECONDS, stdin=subprocess.DEVNULL,
                              preexec_fn=limited)
        sentence = SENTENCES[group][name].replace("{}", str(where))
        said = done.stderr.decode()
        if sentence.endswith("…"):
            sentence += said[len("plumb: ") + len(sentence) - 1:-1]
            sentence = sentence.replace("…", "")
        assert (done.returncode, done.stdout, said) == (1, b"", f"plumb: {sentence}\n")

    return check


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    corpus.demo_copy(folder)
    return folder


@pytest.mark.parametrize("name", corpus.GGUF)
def test_gguf(refuses, tmp_path, name):
    path = tmp_path / "model.gguf"
    path.write_bytes(corpus.GGUF[name])
    refuses("GGUF", name, path, "show", path)


@pytest.mark.parametrize("name", corpus.VOCABULARIES)
def test_vocabulary_in_gguf(refuses, tmp_path, name):
    path = tmp_path / "model.gguf"
    path.write_bytes(corpus.VOCABULARIES[name])
    refuses("VOCABULARIES", name, path, "tokenize", path, "ab")


@pytest.mark.parametrize("name", corpus.SAFETENSORS)
def test_safetensors(refuses, model, name):
    (model / "model.safetensors").write_bytes(corpus.SAFETENSORS[name])
    refuses("SAFETENSORS", name, model / "model.safetensors", "logits", model, "a")


@pytest.mark.parametrize("name", corpus.INDEXES)
def test_index(refuses, model, name):
    (model / "model.safetensors").unlink()
    (model / "model.safetensors.index.json").write_bytes(corpus.INDEXES[name])
    refuses("INDEXES", name, model, "logits", model, "a")


@pytest.mark.parametrize("name", corpus.CONFIGS)
def test_config(refuses, model, name):
    (model / "config.json").write_bytes(corpus.CONFIGS[name])
    refuses("CONFIGS", name, model / "config.json", "show", model)


@pytest.mark.parametrize("name", corpus.CHANGED_CONFIGS)
def test_changed_config(refuses, model, name):
    config = json.loads((model / "config.json").read_text()) | corpus.CHANGED_CONFIGS[name]
    (model / "config.json").write_text(json.dumps(config))
    refuses("CHANGED_CONFIGS", name, model, "logits", model, "a")


@pytest.mark.parametrize("name", corpus.TOKENIZER_JSONS)
def test_tokenizer_json(refuses, tmp_path, name):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(corpus.TOKENIZER_JSONS[name])
    refuses("TOKENIZER_JSONS", name, path, "tokenize", path, "ab")


@pytest.mark.parametrize("name", corpus.HARMLESS_TOKENIZER_JSONS)
def test_harmless_tokenizer_json(plumb_binary, tmp_path, name):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(corpus.HARMLESS_TOKENIZER_JSONS[name])
    done = subprocess.run([plumb_binary, "tokenize", path, "ab"], capture_output=True, timeout=SECONDS, check=True)
    assert json.loads(done.stdout)["ids"] == [2]


@pytest.mark.parametrize("name", corpus.MODELS)
def test_tokenizer_model(refuses, tmp_path, name):
    path = tmp_path / "tokenizer.model"
    path.write_bytes(corpus.MODELS[name])
    refuses("MODELS", name, path, "tokenize", tmp_path, "ab")


@pytest.mark.parametrize("kind", ["folder", "fifo", "endless", "loop"])
@pytest.mark.parametrize("file", ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
                                  "model.gguf"])
def test_what_is_no_file(refuses, model, file, kind):
    corpus.no_file(kind, model / file)
    what = model / file if file == "model.gguf" else model
    refuses("NO_FILE", f"{kind} {'gguf' if file == 'model.gguf' else 'beside'}", model / file, "logits", what, "a")
