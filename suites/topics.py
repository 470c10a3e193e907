"""Topic classification: questions, newsgroups, and five data sets of news, reviews and encyclopedias."""

from functools import partial

from suites.base import NOT_STATED, Suite, Training
from suites.published_data import Published, load, load_joined
from suites.scenarios import by_class, by_domain
from suites.sources import NEEDS_HUB
from suites.text import HEAD_TRAINING

TREC = Published(
    # The hub's own conversion to parquet.
    "hub:CogComp/trec@65752bf53af25bc935a0dce92fb5b6c930728450",
    text=("text",),
    label="coarse_label",
    class_names=("abbreviation", "entity", "description", "human", "location", "number"),
    label_names=("ABBR", "ENTY", "DESC", "HUM", "LOC", "NUM"),
)
NEWSGROUPS = Published(
    "hub:SetFit/20_newsgroups@f1b91292074e7cfb69be58b642d583ec262f30ed",
    text=("text",),
    label="label_text",
    class_names=(
        "alt.atheism",
        "comp.graphics",
        "comp.os.ms-windows.misc",
        "comp.sys.ibm.pc.hardware",
        "comp.sys.mac.hardware",
        "comp.windows.x",
        "misc.forsale",
        "rec.autos",
        "rec.motorcycles",
        "rec.sport.baseball",
        "rec.sport.hockey",
        "sci.crypt",
        "sci.electronics",
        "sci.med",
        "sci.space",
        "soc.religion.christian",
        "talk.politics.guns",
        "talk.politics.mideast",
        "talk.politics.misc",
        "talk.religion.misc",
    ),
    clean="bare-posts",
)
_STARS = ("1 star", "2 stars", "3 stars", "4 stars", "5 stars")
_OfText5 = partial(Published, train_rows=115_000, test_rows=7_600)
"""De Masson d'Autume et al. 2019 cut all five data sets to the sizes of the smallest."""
AG_NEWS = _OfText5(
    "hub:fancyzhx/ag_news@eb185aade064a813bc0b7f42de02595523103ca4",
    text=("text",),
    class_names=("World", "Sports", "Business", "Sci/Tech"),
)
YELP = _OfText5(
    "hub:Yelp/yelp_review_full@c1f9ee939b7d05667af864ee1cb066393154bf85",
    config="yelp_review_full",
    text=("text",),
    class_names=_STARS,
    label_names=("1 star", "2 star", "3 stars", "4 stars", "5 stars"),
)
AMAZON = _OfText5(
    # Only 594de00 of its last commit (July 2024) is known, and the hub needs all forty digits.
    "hub:yassiracharki/Amazon_Reviews_for_Sentiment_Analysis_fine_grained_5_classes@main",
    text=("review_title", "review_text"),
    label="class_index",
    class_names=_STARS,
    label_names=("1", "2", "3", "4", "5"),
)
DBPEDIA = _OfText5(
    "hub:fancyzhx/dbpedia_14@9abd46cf7fc8b4c64290f26993c540b92aa145ac",
    config="dbpedia_14",
    text=("title", "content"),
    class_names=(
        "Company",
        "EducationalInstitution",
        "Artist",
        "Athlete",
        "OfficeHolder",
        "MeanOfTransportation",
        "Building",
        "NaturalPlace",
        "Village",
        "Animal",
        "Plant",
        "Album",
        "Film",
        "WrittenWork",
    ),
)
_YAHOO_NAMES = (
    "Society & Culture",
    "Science & Mathematics",
    "Health",
    "Education & Reference",
    "Computers & Internet",
    "Sports",
    "Business & Finance",
    "Entertainment & Music",
    "Family & Relationships",
    "Politics & Government",
)
YAHOO = _OfText5(
    "hub:community-datasets/yahoo_answers_topics@6652a1e7c94f7260a0bfd0c9092dd48e2d536ea1",
    config="yahoo_answers_topics",
    text=("question_title", "question_content", "best_answer"),
    label="topic",
    # AG News has a class Sports, too, which is not the same.
    class_names=tuple("Sports (Yahoo)" if name == "Sports" else name for name in _YAHOO_NAMES),
    label_names=_YAHOO_NAMES,
)
TEXT5 = (("agnews", AG_NEWS), ("yelp", YELP), ("amazon", AMAZON), ("dbpedia", DBPEDIA), ("yahoo", YAHOO))
TEXT5_ORDERS = (
    ("yelp", "agnews", "dbpedia", "amazon", "yahoo"),
    ("dbpedia", "yahoo", "agnews", "amazon", "yelp"),
    ("yelp", "yahoo", "amazon", "dbpedia", "agnews"),
    ("agnews", "yelp", "amazon", "yahoo", "dbpedia"),
)

TREC_SUITE = Suite(
    name="trec",
    version=1,
    summary="questions by the kind of answer they ask for, six kinds in three tasks of two",
    source="Li & Roth 2002, Learning question classifiers",
    licence=NOT_STATED,
    load=partial(load, TREC),
    split=by_class(3),
    scenarios=("task", "domain", "class", "online"),
    model="minilm",
    model_options={"max_tokens": 64},
    training=HEAD_TRAINING,
    needs=NEEDS_HUB,
)
NEWSGROUPS_SUITE = Suite(
    name="newsgroups",
    version=1,
    summary="posts of 20 newsgroups without headers in five tasks of four",
    source="Lang 1995, NewsWeeder; split by date, without headers, signatures and quotations",
    licence=NOT_STATED,
    load=partial(load, NEWSGROUPS),
    split=by_class(5),
    scenarios=("task", "domain", "class", "online"),
    model="minilm",
    model_options={"max_tokens": 256},
    training=HEAD_TRAINING,
    needs=NEEDS_HUB,
)
NEWSGROUPS_10_SUITE = Suite(
    name="newsgroups-10",
    version=1,
    summary="posts of 20 newsgroups without headers in ten tasks of two",
    source="Lang 1995, as newsgroups; ten tasks",
    licence=NOT_STATED,
    load=partial(load, NEWSGROUPS),
    split=by_class(10),
    scenarios=("task", "domain", "class", "online"),
    model="minilm",
    model_options={"max_tokens": 256},
    training=HEAD_TRAINING,
    needs=NEEDS_HUB,
)
TEXT5_SUITE = Suite(
    name="text5",
    version=1,
    summary="AG News, Yelp, Amazon, DBpedia and Yahoo, a task each, 33 classes, in one of four orders",
    source="de Masson d'Autume et al. 2019, Episodic memory in lifelong language learning; "
    "data: Zhang, Zhao & LeCun 2015, Character-level convolutional networks for text classification",
    licence="AG News: non-commercial use; DBpedia: CC BY-SA 3.0 and GFDL; Yelp: Yelp's dataset terms; "
    "Amazon and Yahoo: not stated by their authors",
    load=partial(load_joined, "text5", TEXT5),
    split=by_domain(TEXT5_ORDERS),
    # Only Yelp and Amazon share classes, so there is no domain-incremental stream.
    scenarios=("task", "class", "online"),
    model="minilm",
    model_options={"max_tokens": 128},
    training=Training(epochs=1, batch=32, optimiser="adam", lr=1e-3),
    needs=NEEDS_HUB,
)
