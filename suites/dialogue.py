"""Schema-Guided Dialogue: an assistant's next response, one domain of services after another.

The input is the last three turns, the target is the system's response. R contains BLEU over 200 responses
of each domain, drawn once for all seeds. The usual score of this data set, joint goal accuracy, is not
computed: it needs annotated dialogue states, and the mirror's rows have only context and response. BLEU does
not replace it.

The hub's ``google-research-datasets/schema_guided_dstc8`` has the annotated dialogues behind a loading
script, which the installed ``datasets`` no longer runs. A mirror is made from its rows or from the original
files.
"""

from functools import partial

from suites.base import BLEU, Suite, Training
from suites.published_data import Published, load_joined
from suites.scenarios import by_domain

DOMAINS = (
    "buses", "events", "flights", "homes", "hotels", "media", "movies", "rentalcars", "restaurants",
    "services",
)  # fmt: skip
DIALOGUE = tuple(
    (
        domain,
        Published(
            "mirror:schema-guided-dialogue",
            config=domain,
            text=("context",),
            target="response",
            test_rows=200,
        ),
    )
    for domain in DOMAINS
)

SCHEMA_GUIDED_DIALOGUE_SUITE = Suite(
    name="schema-guided-dialogue",
    version=1,
    summary="an assistant's next response in ten domains of services, a task each; scored by BLEU",
    source="Rastogi et al. 2020, Towards scalable multi-domain conversational agents",
    licence="CC BY-SA 4.0",
    load=partial(load_joined, "schema-guided-dialogue", DIALOGUE),
    split=by_domain(),
    scenarios=("domain", "online"),
    model="tiny-seq2seq",
    model_options={"max_tokens": 128, "tune": "full"},
    training=Training(epochs=10, batch=32, optimiser="adam", lr=5e-4, validation=0.02),
    score=BLEU,
    needs="a mirror that holds schema-guided-dialogue, columns context and response (LETHE_DATA, --data)",
)
