"""Steps that clean the texts of a split, by name; they make copies of a data set equal."""

from collections.abc import Callable, Mapping


def bare_posts(posts: list[str]) -> list[str]:
    """Return posts without headers, signatures and quotations, as scikit-learn removes them.

    The hub's copy has none, other copies are complete: they are removed if most posts have headers.
    """
    from sklearn.datasets import _twenty_newsgroups as newsgroups

    def has_headers(post: str) -> bool:
        names = [line.partition(":")[0] for line in post.partition("\n\n")[0].splitlines()]
        return "From" in names and "Subject" in names

    if 2 * sum(map(has_headers, posts)) <= len(posts):
        return posts
    bodies = map(newsgroups.strip_newsgroup_header, posts)
    return [newsgroups.strip_newsgroup_quoting(newsgroups.strip_newsgroup_footer(body)) for body in bodies]


STEPS: Mapping[str, Callable[[list[str]], list[str]]] = {"": list, "bare-posts": bare_posts}
