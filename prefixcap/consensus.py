"""Captions that a model's own samples agree with: the choice of least expected loss."""

from collections.abc import Sequence

from prefixcap.decoding import Hypothesis
from prefixcap.metrics import CiderReferences, DocumentFrequencies
from prefixcap.metrics.ptb import tokenize_lines
from prefixcap.tokenizer import CaptionTokenizer


class Consensus:
    """Ranks the hypotheses of an image by their mean CIDEr-D with samples of the same model.

    Minimum Bayes risk (Kumar and Byrne 2004; of samples, Eikema and Aziz 2020): where the model is
    unsure, the likeliest caption is often an odd one, and what most samples say is safer. Without
    `frequencies`, agreement in common words would count for as much as that in telling ones.
    """

    def __init__(self, tokenizer: CaptionTokenizer, frequencies: DocumentFrequencies) -> None:
        self._tokenizer, self._frequencies = tokenizer, frequencies

    def ranked(
        self, found: Sequence[Sequence[Hypothesis]], votes: Sequence[Sequence[Hypothesis]]
    ) -> list[list[Hypothesis]]:
        """The hypotheses `found` for each image, those first that its `votes` agree with most."""
        voters = {image: self._tokens(samples) for image, samples in enumerate(votes)}
        references = CiderReferences(voters, self._frequencies)
        owners = [image for image, hypotheses in enumerate(found) for _ in hypotheses]
        tokens = [text for hypotheses in found for text in self._tokens(hypotheses)]
        agreement = iter(references.score(owners, tokens).tolist())
        ranked = []
        for hypotheses in found:
            scored = [(next(agreement), hypothesis) for hypothesis in hypotheses]
            scored.sort(key=lambda pair: -pair[0])  # stable: equals stay in the beam's order
            ranked.append([hypothesis for _, hypothesis in scored])
        return ranked

    def _tokens(self, hypotheses: Sequence[Hypothesis]) -> list[str]:
        """The captions, tokenized as CIDEr-D has them."""
        return tokenize_lines([self._tokenizer.decode(one.ids) for one in hypotheses])
