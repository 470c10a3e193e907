"""Translation into one language after another: Multi30k, captions of photographs.

The English captions are the same in every task; a prefix of the text names the target language. R contains
BLEU over the 1,000 captions of test2016 in each language.

No copy on the hub has only the texts of all four languages: ``bentrevett/multi30k`` has English and German,
``romrawinjp/multi30k`` has all four (columns en, cs, de, fr and image) with 10 GB of photographs. A mirror is
made from the text columns of the latter, or from the files at github.com/multi30k/dataset.
"""

from functools import partial

from suites.base import BLEU, NOT_STATED, Suite, Training
from suites.published_data import Published, load_joined
from suites.scenarios import by_domain

LANGUAGES = {"de": "German", "fr": "French", "cs": "Czech"}
MULTI30K = tuple(
    (
        f"en-{code}",
        Published(
            "mirror:multi30k",
            config="task1",
            text=("en",),
            target=code,
            prefix=f"translate English to {language}: ",
        ),
    )
    for code, language in LANGUAGES.items()
)

MULTI30K_SUITE = Suite(
    name="multi30k",
    version=1,
    summary="English captions into German, French and Czech, a task each; scored by BLEU",
    source="Elliott et al. 2016, Multi30K: multilingual English-German image descriptions; 2017, 2018",
    licence=NOT_STATED,
    load=partial(load_joined, "multi30k", MULTI30K),
    split=by_domain(),
    scenarios=("domain", "online"),
    model="tiny-seq2seq",
    model_options={"max_tokens": 64, "tune": "full"},
    training=Training(epochs=10, batch=32, optimiser="adam", lr=5e-4, validation=0.01),
    score=BLEU,
    needs="a mirror that holds multi30k/task1 with columns en, de, fr, cs (LETHE_DATA, --data)",
)
