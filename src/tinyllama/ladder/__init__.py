"""Small models of a recipe, trained to predict its loss and to find its peak learning rate."""

from tinyllama.ladder.climb import Climbed, climb
from tinyllama.ladder.record import LadderRecord, read_ladder
from tinyllama.ladder.tune import tune
from tinyllama.ladder.tune_record import TuneRecord, read_tune

__all__ = ["Climbed", "LadderRecord", "TuneRecord", "climb", "read_ladder", "read_tune", "tune"]
