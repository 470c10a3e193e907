"""The README.md of an exported model: how to load it and predict with it."""

import json

from bench.schema import BESIDE, ExportHeader

_OWN = """
With transformers alone:

```python
from transformers import AutoModelForSequenceClassification, AutoTokenizer

model = AutoModelForSequenceClassification.from_pretrained("DIR").eval()
tokenizer = AutoTokenizer.from_pretrained("DIR")
text = tokenizer("a sentence", truncation=True, max_length={max_tokens}, return_tensors="pt")
print(model.config.id2label[model(**text).logits.argmax().item()])
```
"""
_POOLED = """
With transformers alone:

```python
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

model, head = AutoModel.from_pretrained("DIR").eval(), load_file("DIR/head.safetensors")
tokenizer = AutoTokenizer.from_pretrained("DIR")
text = tokenizer("a sentence", truncation=True, max_length={max_tokens}, return_tensors="pt")
states = model(**text).last_hidden_state
logits = {pooled} @ head["weight"].T + head["bias"]
print(model.config.id2label[logits.argmax().item()])
```
"""
_BESIDE = """
It was trained by {tune} tuning, whose parameters are in head.safetensors: transformers alone would ignore
them.
"""


_WRITES = """
With transformers alone:

```python
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

model = AutoModelForSeq2SeqLM.from_pretrained("DIR").eval()
tokenizer = AutoTokenizer.from_pretrained("DIR")
text = tokenizer({text}, truncation=True, max_length={max_tokens}, return_tensors="pt")
given = {{"input_ids": text["input_ids"], "attention_mask": text["attention_mask"]}}
tokens = model.generate(**given, num_beams=1, do_sample=False, max_new_tokens={most})
print(tokenizer.batch_decode(tokens, skip_special_tokens=True)[0].strip())
```
"""


def readme(header: ExportHeader) -> str:
    """Return the README.md of a model with this header."""
    words, given, call = '"a sentence"', '["a sentence"]', "answers"
    does = f"It predicts one of the {len(header.labels)} labels\nof the tasks learned by then."
    if header.reads == "images":
        shape = ", ".join(map(str, header.shape))
        words, given = "--file images.npy", "images"
        more = f"\nImages are an array of shape (N, {shape}) with values from 0 to {header.scale:g}.\n"
    elif header.writes:
        names, prefixes = zip(*header.writes.tasks, strict=True)
        does, call = f"It generates text for the tasks\nlearned by then: {', '.join(names)}.", "written"
        if any(prefixes):
            words, given = f'"a sentence" --task {names[0]}', f'["a sentence"], "{names[0]}"'
        text = json.dumps(f"{prefixes[0]}a sentence", ensure_ascii=False)
        more = _WRITES.format(text=text, most=header.writes.most, **header.options)
    else:
        options = header.options
        form = _BESIDE if options["tune"] in BESIDE else _OWN if options["pooling"] == "own" else _POOLED
        pooled = "states[:, 0]" if options["pooling"] == "first" else "states.mean(1)"
        more = form.format(pooled=pooled, **options)
    origin = header.origin
    return f"""# A model that Lethe exported

From {origin.cell}, after {origin.tasks_done} of {origin.tasks} tasks. {does}
Below, DIR is this folder.

    lethe predict DIR {words}

```python
from lethe import Predictor

print(Predictor.load("DIR").{call}({given}))
```
{more}"""
