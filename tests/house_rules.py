#!/usr/bin/env python3
"""Holds the source to the order of the rooms (docs/architecture.md): python3 tests/house_rules.py ROOT

The table of allowed edges is CMakeLists.txt itself: `plumb_room(NAME ROOMS …)` lists what NAME may include, each room of
the list declared above it. Other rules: no aborts in the rooms that read what others wrote; a type's name is one header's; an architecture is one file with
a folder of test data, at most 90 lines when it is dense, 140 with experts, 250 with states or latents of its own. Files over
500 lines are a warning. Each finding is one line, path:line: what
is wrong.
"""

import json
import pathlib
import re
import sys
import tempfile

STRANGERS = [{"reference", "cpu"}]  # two executors of one graph, each the other's witness: neither may use the other
UNTRUSTED = ["io", "text", "server"]  # these rooms parse files and requests: they answer with Result, whatever comes
ABORTS = re.compile(r"\b(PLUMB_D?CHECK|assert|abort|terminate|_?exit|throw)\b")
LINE_LIMIT = 500
# What a file records makes its kind: the first that is found in it.
MODEL_LINE_LIMITS = [(re.compile(r"delta_|attend_shared|latent"), 250), (re.compile(r"experts"), 140), (re.compile(""), 90)]
WITHOUT_CHECKPOINT = {"mistral", "deepseek_v3"}  # no checkpoint of ours has these architectures: only the live tests against transformers do

NAMESPACE = re.compile(r"^namespace(?: ([\w:]+))? \{")
TYPE = re.compile(r"^(?:class|struct|enum(?: class)?) (?:alignas\(\w+\) )?(\w+)\b(?!::)[^;]*$")
ROOM = re.compile(r"^\s*plumb_(?:room|models)\(\s*(\w+)(.*?)\)", re.MULTILINE | re.DOTALL)
INCLUDE = re.compile(r'^\s*#\s*include\s*["<]([^">]+)[">]')
COMMENT_OR_LITERAL = re.compile(
    r'//[^\n]*|/\*.*?\*/|R"([^(\s]*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'', re.DOTALL)


def read_rooms(root, findings):
    """The rooms that each room may include, itself among them, in the order of CMakeLists.txt."""
    text = (root / "CMakeLists.txt").read_text()
    allowed = {}
    for match in ROOM.finditer(text):
        name = match.group(1)
        where = f"CMakeLists.txt:{text.count(chr(10), 0, match.start(1)) + 1}"
        rooms = re.search(r"\bROOMS\s+([\w\s]*?)\s*(?:\b[A-Z]{4,}\b|$)", match.group(2))
        below = rooms.group(1).split() if rooms else []
        for room in below:
            if room not in allowed:
                findings.append(f"{where}: {name} uses {room}, which is not a room declared above it")
            if any({name, room} <= pair for pair in STRANGERS):
                findings.append(f"{where}: {name} uses {room}, and neither of the two may know the other")
        allowed[name] = {name, *below}
    if not allowed:
        findings.append("CMakeLists.txt:1: no plumb_room(…) found, so there is no order to hold the includes to")
    return allowed


def without_comments_and_literals(text):
    """The same lines, with comments and literals blanked."""
    return COMMENT_OR_LITERAL.sub(lambda match: "\n" * match.group(0).count("\n"), text)


def check_includes(path, lines, room, allowed, known, findings):
    for number, line in enumerate(lines, 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        target = match.group(1)
        if ".." in pathlib.PurePosixPath(target).parts:
            findings.append(f"{path}:{number}: includes {target}; write the path from src/")
        elif "/" in target and (first := target.split("/")[0]) in known and first not in allowed:
            findings.append(f"{path}:{number}: {room} includes {target}, but may only use {', '.join(sorted(allowed))}")


def check_file(path, text, room, allowed, known, findings, warnings):
    lines = text.splitlines()
    check_includes(path, lines, room, allowed, known, findings)
    if room in UNTRUSTED and not path.name.endswith("_test.cpp"):
        for number, line in enumerate(without_comments_and_literals(text).splitlines(), 1):
            if match := ABORTS.search(line):
                findings.append(f"{path}:{number}: {match.group(0)} in {room}, which answers hostile input with Result")
    if len(lines) > LINE_LIMIT:
        warnings.append(f"{path}:{len(lines)}: over {LINE_LIMIT} lines")


def check_models(root, findings):
    """src/models/NAME.cpp, each with a trained or random checkpoint of its model_type under tests/data."""
    configs = [path for folder in ("checkpoints", "variants") for path in (root / "tests/data" / folder).glob("*/config.json")]
    types = {json.loads(path.read_text()).get("model_type", "") for path in configs}
    # The text model of a vision-language architecture calls itself NAME_text.
    covered = {name.removesuffix("_text") for name in types} | WITHOUT_CHECKPOINT
    for path in sorted((root / "src/models").glob("*.cpp")):
        relative, text = path.relative_to(root), path.read_text()
        lines, limit = len(text.splitlines()), next(limit for kind, limit in MODEL_LINE_LIMITS if kind.search(text))
        if path.name.endswith("_test.cpp"):
            continue
        if path.stem not in covered:
            findings.append(f"{relative}:1: tests/data has no model of type {path.stem}")
        if lines > limit:
            findings.append(f"{relative}:{lines}: an architecture of its kind takes at most {limit} lines")


def types_defined(text):
    """(line, name with its namespaces) of each class, struct and enum that a header defines for others."""
    spaces = []
    for number, line in enumerate(without_comments_and_literals(text).splitlines(), 1):
        if match := NAMESPACE.match(line):
            spaces.append(match.group(1) or "(unnamed)")
        elif line.startswith("}") and line.rstrip() == "}" and spaces:
            spaces.pop()
        elif (match := TYPE.match(line)) and "(unnamed)" not in spaces:
            yield number, "::".join([*spaces, match.group(1)])


def check_types(headers, findings):
    """Two types of one name are one to the linker, which keeps the members of either: what one room destroys may be another's."""
    first = {}
    for path, text in headers:
        for number, name in types_defined(text):
            if name in first:
                findings.append(f"{path}:{number}: {name} is defined in {first[name]} too")
            first.setdefault(name, path)


def sources(root, folder):
    found = (path for path in (root / folder).rglob("*") if path.suffix in {".cpp", ".h", ".inc"})
    return sorted(found)


def check(root):
    """Findings and warnings for the tree at root."""
    findings, warnings, headers = [], [], []
    allowed = read_rooms(root, findings)
    known = set(allowed) | {path.name for path in (root / "src").iterdir() if path.is_dir()} | {"apps"}
    for path in [*sources(root, "src"), *sources(root, "apps"), *sources(root, "include")]:
        relative = path.relative_to(root)
        text = path.read_text()
        if relative.parts[0] == "src":
            room = relative.parts[1]
            if room not in allowed:
                findings.append(f"{relative}:1: {room} is no room of CMakeLists.txt")
                continue
            may_use = allowed[room]
        else:
            room = relative.parts[0]
            may_use = set(allowed) if room == "apps" else set()
        check_file(relative, text, room, may_use, known, findings, warnings)
        if path.suffix == ".h":
            headers.append((relative, text))
    check_types(headers, findings)
    check_models(root, findings)
    return findings, warnings


def self_test():
    """Plants each violation in a small tree and demands exactly the findings that it should cause."""
    cmake = ("plumb_room(core LIBRARIES fmt::fmt)\nplumb_room(io ROOMS core LIBRARIES x::x)\n"
             "plumb_room(reference ROOMS core)\nplumb_room(cpu ROOMS core)\nplumb_models(models ROOMS core io)\n")
    clean = {
        "CMakeLists.txt": cmake,
        "src/core/a.h": "#pragma once\n#include <vector>\n",
        "src/io/a.cpp": '#include "core/a.h"\n// never throw\nconst char* k = "assert";\nstatic_assert(true);\n',
        "src/io/a_test.cpp": "void f() { throw 1; }\n",
        "src/models/a.cpp": '#include "io/a.h"\n',
        "tests/data/checkpoints/tiny-a/config.json": '{"model_type": "a"}',
        "apps/plumb/main.cpp": '#include "models/a.h"\n',
    }
    planted = {
        "upwards": ({"src/core/b.cpp": '\n#include "io/a.h"\n'}, ["src/core/b.cpp:2: core includes io/a.h"]),
        "in a header, with angles": ({"src/io/b.h": "#include <models/a.h>\n"}, ["src/io/b.h:1: io includes models/a.h"]),
        "not in the list": ({"src/models/support/b.cpp": '#include "reference/a.h"\n'}, ["src/models/support/b.cpp:1: models includes"]),
        "in a test": ({"src/core/a_test.cpp": '#include "io/a.h"\n'}, ["src/core/a_test.cpp:1: core includes io/a.h"]),
        "an app": ({"src/models/support/b.cpp": '#include "apps/plumb/a.h"\n'}, ["src/models/support/b.cpp:1: models includes apps"]),
        "around the order": ({"src/core/b.cpp": '#include "../io/a.h"\n'}, ["src/core/b.cpp:1: includes ../io/a.h"]),
        "a public header": ({"include/plumb/a.h": '#include "core/a.h"\n'}, ["include/plumb/a.h:1: include includes core"]),
        "unlisted folder": ({"src/attic/a.cpp": "\n"}, ["src/attic/a.cpp:1: attic is no room"]),
        "edge upwards": ({"CMakeLists.txt": cmake.replace("core LIB", "core ROOMS io LIB")},
                         ["CMakeLists.txt:1: core uses io, which is not a room declared above"]),
        "strangers": ({"CMakeLists.txt": cmake.replace("cpu ROOMS core", "cpu ROOMS core reference")},
                      ["CMakeLists.txt:4: cpu uses reference, and neither"]),
        "throw": ({"src/io/b.cpp": "/* a\n*/ void f() {\n  throw 1;\n}\n"}, ["src/io/b.cpp:3: throw in io"]),
        "check": ({"src/io/b.h": 'f("//"); PLUMB_CHECK(x);\n'}, ["src/io/b.h:1: PLUMB_CHECK in io"]),
        "assert": ({"src/io/b.h": "assert(x);\n"}, ["src/io/b.h:1: assert in io"]),
        "abort": ({"src/io/b.h": "std::abort();\n"}, ["src/io/b.h:1: abort in io"]),
        "no test data": ({"src/models/c.cpp": "\n"}, ["src/models/c.cpp:1: tests/data has no model"]),
        "long dense model": ({"src/models/a.cpp": "\n" * 91}, ["src/models/a.cpp:91: an architecture of its kind takes at most 90"]),
        "long model with experts": ({"src/models/a.cpp": "b.experts();\n" * 141}, ["src/models/a.cpp:141: an architecture of its kind takes"]),
        "long hybrid model": ({"src/models/a.cpp": "experts latent\n" * 251}, ["src/models/a.cpp:251: an architecture of its kind takes"]),
        "a hybrid model": ({"src/models/a.cpp": "delta_net\n" * 250}, []),
        "one name in two rooms": ({"src/core/b.h": "namespace plumb {\nclass A {\n};\n}  // namespace plumb\n",
                                   "src/io/b.h": "namespace plumb {\nclass B;\nstruct A final : B {\n};\n}  // namespace plumb\n"},
                                  ["src/io/b.h:3: plumb::A is defined in src/core/b.h too"]),
        "one name in two namespaces": ({"src/core/b.h": "namespace plumb::core {\nclass A {\n};\n}  // namespace plumb::core\n",
                                        "src/io/b.h": "namespace plumb {\nclass A;\nnamespace {\nclass B {\n};\n}  // namespace\nclass A {\n};\n"
                                                      "}  // namespace plumb\n",
                                        "src/io/c.h": "namespace plumb {\nclass A;\nclass B {\n};\n}  // namespace plumb\n"}, []),
        "long file": ({"src/core/a.cpp": "\n" * 501}, ["warning: src/core/a.cpp:501: over 500 lines"]),
    }
    failures = []
    for name, (files, expected) in {"nothing": ({}, []), **planted}.items():
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for path, text in {**clean, **files}.items():
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_text(text)
            findings, warnings = check(root)
        findings += [f"warning: {warning}" for warning in warnings]
        if len(findings) != len(expected) or not all(f.startswith(e) for f, e in zip(findings, expected)):
            failures.append(f"planted {name}: expected {expected}, found {findings}")
    return failures


def main():
    if sys.argv[1:] == ["--self-test"]:
        findings, warnings = self_test(), []
    elif len(sys.argv) == 2:
        findings, warnings = check(pathlib.Path(sys.argv[1]))
    else:
        sys.exit(__doc__)
    for warning in warnings:
        print(f"warning: {warning}")
    for finding in findings:
        print(finding)
    print(f"{len(findings)} findings, {len(warnings)} warnings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
