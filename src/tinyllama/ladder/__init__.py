"""Small models of a recipe, trained to predict its loss: the rungs, the fitted law, the prediction and its miss."""

from tinyllama.ladder.climb import Climbed, climb
from tinyllama.ladder.record import LadderRecord, read_ladder

__all__ = ["Climbed", "LadderRecord", "climb", "read_ladder"]
