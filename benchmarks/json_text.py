"""Functions of text of JSON on one core: by their kernel, and by Python's json, which reads what the kernel leaves.

    python benchmarks/json_text.py [--texts 100000] [--runs 5]

The least processor time of the runs counts.
"""

from __future__ import annotations

import argparse
import json
import time

import pyarrow as pa

from mmflow.plan.functions.json_values import JsonFunction, value_of

_CALLS = {
    "json_extract": "$.user.tags",
    "json_extract_string": "$.user.name",
    "json_type": "$.v",
    "json_array_length": "$.user.tags",
    "json_valid": "$",
}
_BY_PYTHON = 5_000


def document(number: int) -> str:
    """Return a document of some 170 bytes."""
    user = {"name": f"user number {number}", "tags": ["x", "y", str(number)]}
    return json.dumps({"id": number, "user": user, "text": "some text of a record " * 3, "v": number / 7})


def main() -> None:
    """Measure, and print one JSON object a line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    texts = pa.array([document(number) for number in range(given.texts)], pa.string_view())
    few = texts[:_BY_PYTHON].to_pylist()
    for name, path in _CALLS.items():
        call = JsonFunction(name).call
        paths = pa.array([path] * given.texts, pa.string_view())
        taken = []
        for _ in range(given.runs):
            begin = time.process_time()
            call(texts, paths)
            taken.append(time.process_time() - begin)
        begin = time.process_time()
        for text in few:
            value_of(name, text, path)
        slow = time.process_time() - begin
        print(json.dumps({"function": name, "path": path, "texts a second": round(given.texts / min(taken)),
                          "by Python's json": round(len(few) / slow)}))  # fmt: skip


if __name__ == "__main__":
    main()
