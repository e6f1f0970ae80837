"""ELMo's layers: a word's vector from its letters, and a token's vector from the layers of a language model.

char_ids [B, T, C] -> letters [W, C, E] of W distinct words -> convolutions, maxima [W, F] -> highways -> [B, T, P]
"""

import torch
from torch import Tensor, nn

from .inputs import can_look, is_recorded


# pads `char_ids` after a word
FILL = 261


class Highway(nn.Module):
    """y = g ⊙ relu(W x + b) + (1 − g) ⊙ x with the gate g = σ(V x + c) (Srivastava et al., 2015)."""

    def __init__(self, size: int):
        super().__init__()
        self.transform = nn.Linear(size, size)
        self.gate = nn.Linear(size, size)
        # nearly closed
        self.gate.initial_bias = -2.0

    def forward(self, x: Tensor) -> Tensor:
        return torch.lerp(x, self.transform(x).relu(), self.gate(x).sigmoid())


class CharacterCNN(nn.Module):
    """A word's vector from its letters (Kim et al., 2016): convolutions, max pooling, highway layers."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.embed_characters = nn.Embedding(config.num_characters, config.character_size, padding_idx=0)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(config.character_size, number, width) for width, number in config.cnn_filters
        )
        self.highways = nn.ModuleList(Highway(config.num_filters) for _ in range(config.num_highway_layers))
        # the published models have no projection if it would not change the length
        is_needed = config.num_filters != config.projection_size
        self.projection = nn.Linear(config.num_filters, config.projection_size) if is_needed else nn.Identity()

    def check(self, char_ids):
        """Raises ValueError for a malformed tensor or an id that is not a character."""
        length = self.config.max_characters
        if not isinstance(char_ids, Tensor) or char_ids.dim() != 3 or char_ids.is_floating_point():
            found = f"{char_ids.dtype} {list(char_ids.shape)}" if isinstance(char_ids, Tensor) else type(char_ids)
            raise ValueError(f"char_ids must be an integer tensor of shape [batch, time, {length}], not {found}")
        if char_ids.shape[2] != length:
            raise ValueError(f"char_ids has {char_ids.shape[2]} characters per token; max_characters is {length}")
        if can_look(char_ids) and char_ids.numel():
            outside = (char_ids < 0) | (char_ids >= self.config.num_characters)
            if outside.any():
                place = outside.nonzero()[0].tolist()
                raise ValueError(
                    f"char_ids{place} is {char_ids[tuple(place)].item()}; ids must lie between 0 and "
                    f"{self.config.num_characters - 1}: make them with ELMoTokenizer"
                )

    # only the data tell how many words are distinct, and a compiled graph cannot read them
    @torch.compiler.disable
    def forward(self, char_ids: Tensor) -> Tensor:
        """char_ids [B, T, C] -> [B, T, P]; each distinct word is computed once."""
        self.check(char_ids)
        if char_ids.numel() == 0:
            return self.embed_characters.weight.new_zeros(*char_ids.shape[:2], self.config.projection_size)
        if is_recorded(char_ids):
            return self.vectors(char_ids.flatten(0, 1)).unflatten(0, char_ids.shape[:2])
        words, places = torch.unique(char_ids.flatten(0, 1), dim=0, return_inverse=True)
        return self.vectors(self.shortened(words))[places].view(*char_ids.shape[:2], -1)

    def shortened(self, words: Tensor) -> Tensor:
        """Trims trailing padding of words [W, C] that cannot change any max-pooled value."""
        places = torch.arange(1, words.shape[1] + 1, device=words.device)
        # read once, since a GPU stalls each time
        longest = int((((words != FILL) & (words != 0)) * places).max())
        return words[:, : longest + max(width for width, _ in self.config.cnn_filters)]

    def vectors(self, words: Tensor) -> Tensor:
        """words [W, C] -> [W, P]."""
        x = self.embed_characters(words).transpose(1, 2)  # [W, E, C]
        activation = torch.relu if self.config.cnn_act == "relu" else torch.tanh
        x = torch.cat([activation(convolution(x).amax(2)) for convolution in self.convolutions], dim=1)
        for highway in self.highways:
            x = highway(x)
        return self.projection(x)


class ScalarMix(nn.Module):
    """γ Σ_j softmax(w)_j h_j over L layers; `layer_norm` normalises each h_j over all tokens of the batch.

    As in the authors' code, the norm is over the batch, not per token.
    """

    def __init__(self, num_layers: int, layer_norm: bool):
        super().__init__()
        self.layer_norm = layer_norm
        self.weights = nn.Parameter(torch.empty(num_layers))
        self.gamma = nn.Parameter(torch.empty(1))

    def forward(self, layers: list[Tensor] | None, attention_mask: Tensor | None = None) -> Tensor:
        """L layers [B, T, D], zero over padding -> [B, T, D]; without layers it gives ‖w‖².

        Offloaded weights are loaded only during this call.
        """
        if layers is None:
            return self.weights.square().sum()
        if self.layer_norm:
            layers = [self.normalized(layer, attention_mask) for layer in layers]
        # --8<-- [start:mix]
        shares = self.weights.softmax(0)
        return self.gamma * sum(share * layer for share, layer in zip(shares, layers, strict=True))
        # --8<-- [end:mix]

    @staticmethod
    def normalized(x: Tensor, attention_mask: Tensor | None) -> Tensor:
        """Normalises x by one mean and one variance of all numbers outside padding."""
        mask = x.new_ones(x.shape[:2]) if attention_mask is None else attention_mask.to(x.dtype)
        mask = mask[..., None]
        count = (mask.sum() * x.shape[2]).clamp(min=1)
        centred = (x - (x * mask).sum() / count) * mask
        return centred * (centred.square().sum() / count + 1e-12).rsqrt()
