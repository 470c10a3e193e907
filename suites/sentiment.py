"""Sentiment of reviews over sixteen domains of products and films."""

from functools import partial

from suites.base import NOT_STATED, Suite
from suites.published_data import Published, load_joined
from suites.scenarios import by_domain
from suites.text import HEAD_TRAINING

DOMAINS = (
    "apparel", "baby", "books", "camera_photo", "dvd", "electronics", "health_personal_care", "imdb",
    "kitchen_housewares", "magazines", "mr", "music", "software", "sports_outdoors", "toys_games", "video",
)  # fmt: skip
SENTIMENT = tuple(
    (
        domain,
        Published("mirror:fdu-mtl", config=domain, text=("text",), class_names=("negative", "positive")),
    )
    for domain in DOMAINS
)

SENTIMENT_DOMAINS_SUITE = Suite(
    name="sentiment-domains",
    version=1,
    summary="positive and negative reviews, sixteen domains of products and films, a task each",
    source="Liu, Qiu & Huang 2017, Adversarial multi-task learning for text classification",
    licence=NOT_STATED,
    load=partial(load_joined, "sentiment-domains", SENTIMENT),
    split=by_domain(),
    # Every domain has both classes: a class-incremental stream would be a domain-incremental one.
    scenarios=("task", "domain", "online"),
    model="minilm",
    model_options={"max_tokens": 128},
    training=HEAD_TRAINING,
    needs="a mirror that holds fdu-mtl (LETHE_DATA, --data); no copy on a hub is known",
)
