"""Embeddings of conditions: what is said of a row in whole numbers or in words, as numbers for a network.

Both players may have one of their own:

    embedding = LabelEmbedding(10, 32)
    images = generator(torch.cat([noise, embedding(labels)], 1))
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from pyro_gan.checks import listed, positive_integer, shown


class LabelEmbedding(nn.Embedding):
    """A vector of numbers for each label, learned with the network that it is part of.

    Args:
        num_labels: The number of labels, which are 0 to `num_labels - 1`.
        size: The numbers of a vector; at first they are standard normal.

    Raises:
        TypeError, ValueError: One is no positive integer.

    Example:
        >>> embedding = LabelEmbedding(10, 32)
        >>> embedding(torch.tensor([3, 1, 4])).shape
        torch.Size([3, 32])
    """

    def __init__(self, num_labels: int, size: int) -> None:
        super().__init__(positive_integer("num_labels", num_labels), positive_integer("size", size))

    def forward(self, labels: Tensor) -> Tensor:
        """The vectors of labels.

        Args:
            labels: Integers with shape `(*)`.

        Returns:
            The vectors, with shape `(*, size)`.

        Raises:
            TypeError: They are no integers.
            ValueError: There is no such label.
        """
        if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.is_complex():
            found = labels.dtype if isinstance(labels, Tensor) else type(labels).__name__
            raise TypeError(f"labels must be a tensor of integers, but are of type {found}. Pass labels.long().")
        try:
            return super().forward(labels.long())
        except IndexError:  # asked afterwards, since looking at values waits for a device
            beyond = labels[(labels < 0) | (labels >= self.num_embeddings)].unique().tolist()
            raise ValueError(
                f"labels hold {listed(beyond)}, but the embedding has {self.num_embeddings} labels, from 0 to "
                f"{self.num_embeddings - 1}. Ask for one of these, or make LabelEmbedding with more."
            ) from None


class CaptionEmbedding(nn.Module):
    """A vector of numbers for each caption: the mean of what is learned of its words, wherever they stand.

    Captions are text, and data are tensors. So :meth:`tokens` turns the ones into the others beforehand.

    Args:
        captions: The captions of the data, of which the words are taken.
        size: The numbers of a vector; those of a word are standard normal at first.

    Attributes:
        words: The words that it knows, in the order of their numbers from 1 on.

    Raises:
        TypeError: `captions` are no texts, or `size` is no integer.
        ValueError: There are no captions, or `size` is not positive.

    Example:
        >>> embedding = CaptionEmbedding(["a handwritten seven", "a handwritten two"], 32)
        >>> tokens = embedding.tokens(["a handwritten two", "seven"])
        >>> tokens
        tensor([[1, 2, 4],
                [3, 0, 0]])
        >>> embedding(tokens).shape
        torch.Size([2, 32])
    """

    def __init__(self, captions: Iterable[str], size: int) -> None:
        super().__init__()
        split = [_words(caption) for caption in _texts(captions)]
        self.words = tuple(sorted({word for each in split for word in each}))
        if not self.words:
            raise ValueError("captions hold no word. Pass the captions of the data, such as ['a handwritten seven'].")
        self.length = max(map(len, split))
        self.embedding = nn.Embedding(len(self.words) + 1, positive_integer("size", size), padding_idx=0)

    def tokens(self, captions: str | Iterable[str]) -> Tensor:
        """The numbers of captions' words.

        Args:
            captions: Captions, or one.

        Returns:
            Integers with shape `(num_captions, num_words)`, 0 where a caption has no more words.

        Raises:
            ValueError: A word is not among those known, or a caption has more words than any of the data.
        """
        rows = []
        for caption in _texts([captions] if isinstance(captions, str) else captions):
            words = _words(caption)
            unknown = [word for word in words if word not in self.words]
            if unknown or len(words) > self.length or not words:
                raise ValueError(
                    f"the caption {caption!r} has {f'the unknown word {unknown[0]!r}' if unknown else f'{len(words)} '}"
                    f"{'' if unknown else 'words'}, but captions have up to {self.length} of the words "
                    f"{listed(self.words)}. Use these, or make CaptionEmbedding of captions that hold it."
                )
            numbers = [self.words.index(word) + 1 for word in words]
            rows.append(numbers + [0] * (self.length - len(numbers)))
        return torch.tensor(rows, device=self.embedding.weight.device)

    def forward(self, tokens: Tensor) -> Tensor:
        """The vectors of captions.

        Args:
            tokens: What :meth:`tokens` returned, with shape `(num_captions, num_words)`.

        Returns:
            The vectors, with shape `(num_captions, size)`.
        """
        number = (tokens != 0).sum(1, keepdim=True).clamp_min(1)
        return self.embedding(tokens).sum(1) / number

    def extra_repr(self) -> str:
        return f"{len(self.words)} words"


def _texts(captions: Iterable[str]) -> list[str]:
    """Captions as a list.

    Raises:
        TypeError: They are no texts.
    """
    texts = [] if isinstance(captions, str) else list(captions)
    if not texts or not all(isinstance(text, str) for text in texts):
        raise TypeError(f"captions must be a list of texts such as ['a handwritten seven'], but are {shown(captions)}.")
    return texts


def _words(caption: str) -> list[str]:
    return caption.lower().split()
