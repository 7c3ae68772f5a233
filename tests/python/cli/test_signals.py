"""Pipes, signals, terminals."""
import json
import os
import pty
import re
import select
import signal
import subprocess
import time

from cli_support import DEMO, MODEL, PROMPT, TIMEOUT_SECONDS


def test_a_closed_pipe_ends_quietly(plumb_binary):
    for arguments in (["run", PROMPT, "--ignore-eos", "--max-tokens", "100000"], ["show", DEMO, "--json"],
                      ["logits", DEMO, "--ids", ",".join(["5"] * 400), "--top", "100"]):
        process = subprocess.Popen([plumb_binary, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdout.read(1)
        process.stdout.close()
        assert process.wait(TIMEOUT_SECONDS) == 0
        assert process.stderr.read() == b""
        process.stderr.close()


def test_a_full_disk_is_an_error(plumb_binary):
    with open("/dev/full", "wb") as full:
        for arguments in (["run", PROMPT], ["show"], ["--help"], ["run", "--help"], ["run", PROMPT, "--json"]):
            done = subprocess.run([plumb_binary, *arguments], stdout=full, stderr=subprocess.PIPE, timeout=TIMEOUT_SECONDS)
            assert done.returncode == 1
            assert done.stderr == b"plumb: cannot write to standard output: No space left on device\n"


def endless(plumb_binary, *more, **options):
    return subprocess.Popen([plumb_binary, "run", PROMPT, "--ignore-eos", "--max-tokens", "1000000", *more],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def test_interrupt_ends_generation_cleanly(plumb_binary):
    process = endless(plumb_binary)
    first = process.stdout.read(20)
    assert first.startswith(b" Paris")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 130
    (first + out).decode()
    assert out.endswith(b"\n")
    assert re.search(r"; cancelled; cpu executor", err.decode().splitlines()[-1])


def test_interrupt_with_json_still_prints_it(plumb_binary):
    process = endless(plumb_binary, "--json")
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 130
    result = json.loads(out)
    assert result["finish_reason"] == "cancelled" and result["ids"]


def test_interrupt_during_a_long_prompt(plumb_binary):
    for command in ("run", "logits"):
        process = subprocess.Popen([plumb_binary, command, MODEL, "--ids-file", "-"], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdin.write(b"5," * 20000)
        process.stdin.close()
        time.sleep(1.5)
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT_SECONDS) == 130
        err = process.stderr.read().decode()
        assert "tokens/s" not in err
        assert ("prompt 20000 tokens; generated 0 tokens; cancelled" in err) == (command == "run")
        process.stdout.close()
        process.stderr.close()


def test_interrupt_while_reading_the_prompt(plumb_binary):
    process = subprocess.Popen([plumb_binary, "run"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert process.wait(TIMEOUT_SECONDS) == 130
    for stream in (process.stdin, process.stdout, process.stderr):
        stream.close()


def test_text_streams_while_it_is_generated(plumb_binary):
    process = endless(plumb_binary)
    ready, _, _ = select.select([process.stdout], [], [], 30)
    assert ready and process.poll() is None
    assert os.read(process.stdout.fileno(), 6)
    process.kill()
    process.communicate()


def test_a_terminal_shows_progress_of_a_long_prompt(plumb_binary, tmp_path):
    ids = tmp_path / "ids"
    ids.write_text(",".join(["5"] * 600))
    master, slave = pty.openpty()
    with subprocess.Popen([plumb_binary, "run", DEMO, "--ids-file", ids, "--max-tokens", "1"], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=slave) as process:
        os.close(slave)
        seen = b""
        while True:
            try:
                data = os.read(master, 4096)
            except OSError:  # the other end is closed
                break
            if not data:
                break
            seen += data
        process.stdout.read()
    os.close(master)
    assert b"reading the prompt: 256 of 600 tokens" in seen
    assert seen.index(b"\r\x1b[K[prompt 600 tokens") > seen.index(b"reading the prompt: 512")
