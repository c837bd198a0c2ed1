"""Let a language model answer sentences: `ag2 query --sentence "..." --reasoner "python examples/reasoner.py"`.

Reads {"scene": ..., "sentence": ...} from standard input, asks the local command in AG2_MODEL_COMMAND (say
`ollama run qwen3` or `llama-cli -m model.gguf -p -`), which gets a prompt on its standard input, and writes the ids.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys

PROMPT = """A scene is described as JSON: things with id, names, colours, centre (x, y horizontal, z up), size, what
they stand on, what is near. "right" and "ahead" are distances as the viewer sees them.

{scene}

Which things does this describe: "{sentence}"? Answer with one JSON object:
{{"ids": [...], "reason": "..."}}. Give no ids if nothing fits."""


def main() -> None:
    command = shlex.split(os.environ.get("AG2_MODEL_COMMAND", ""))
    if not command:
        raise SystemExit("set AG2_MODEL_COMMAND to a command that answers a prompt, for example 'ollama run qwen3'")
    asked = json.load(sys.stdin)
    prompt = PROMPT.format(scene=json.dumps(asked["scene"]), sentence=asked["sentence"])
    text = subprocess.run(command, input=prompt, capture_output=True, text=True, check=True).stdout
    found = re.findall(r"\{[^{}]*\"ids\"[^{}]*\}", text)
    if not found:
        raise SystemExit(f"the model gave no ids: {text.strip()[:200]}")
    print(json.dumps(json.loads(found[-1])))


if __name__ == "__main__":
    main()
