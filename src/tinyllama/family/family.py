"""A family: one recipe in one folder, and every phase from its text to its report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tinyllama.corpus.manifest import TRAIN, is_prepared, open_corpus
from tinyllama.errors import UserError
from tinyllama.family.prepare import Prepared, prepare, prepare_tokenizer
from tinyllama.family.progress import SILENT
from tinyllama.family.workspace import Workspace
from tinyllama.layout import BASE, FamilyLayout
from tinyllama.prepare.prepare import PrepareOptions
from tinyllama.recipe import Recipe, load_recipe

if TYPE_CHECKING:
    from tinyllama.checkpoint.format import Checkpoint
    from tinyllama.evaluation.record import EvaluationRecord
    from tinyllama.export import ParityResult
    from tinyllama.family.progress import Progress
    from tinyllama.report.summary import FamilySummary
    from tinyllama.train import Ranks, TrainingRun


class Family:
    """One recipe in one folder. Everything it makes is kept, and made again only if it would differ.

    Each phase is a method that does what is missing and returns what is there: `prepare`, `train`, `evaluate`,
    `export`, `report`; `reproduce` does all of them in order. A process that is stopped loses nothing: the same call
    resumes.
    """

    def __init__(
        self,
        recipe: Recipe | str,
        folder: Path | str | None = None,
        *,
        root: Path | str = ".",
        progress: Progress = SILENT,
        ranks: Ranks | None = None,
    ) -> None:
        """Bind a recipe to a folder; nothing is made yet.

        Args:
            recipe: a recipe, the name of a shipped one, or the path of a YAML file.
            folder: of everything the family makes; `runs/<recipe name>` by default.
            root: what relative paths in the recipe are relative to.
            progress: receives messages and counts; nothing is shown by default.
            ranks: the processes that train together, from `join_ranks`; None for this process alone.

        Raises:
            RecipeError: the recipe cannot be found, read or validated.
        """
        recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
        folder = Path("runs") / recipe.name if folder is None else Path(folder)
        self.work = Workspace(recipe, FamilyLayout(folder), Path(root), progress, ranks)
        self._prepared: Prepared | None = None

    @property
    def recipe(self) -> Recipe:
        """The family's recipe."""
        return self.work.recipe

    @property
    def folder(self) -> Path:
        """The folder of everything the family makes."""
        return self.work.layout.root

    @property
    def layout(self) -> FamilyLayout:
        """Where everything lies in the folder."""
        return self.work.layout

    @property
    def models(self) -> list[str]:
        """`base` and the variants."""
        return self.work.models

    def prepare(self, options: PrepareOptions | None = None) -> Prepared:
        """Obtain the tokenizer and prepare every corpus whose source is available; minutes to days of work.

        Args:
            options: workers, executor and checks; they change nothing in the result. Calls after the first return
                what the first one prepared.

        Raises:
            CorpusError: text, tokenizer or disk are not what preparation needs.
            SourceError: the tokenizer is unavailable; a corpus whose source is unavailable is in `missing` instead.
        """
        if self._prepared is None:
            options, ranks = options or PrepareOptions(), self.work.ranks
            if ranks is not None:  # the others then find what rank 0 has prepared
                with ranks.phase("the preparation of the corpora; run `tinyllama prepare` before training"):
                    ranks.run_on_rank0(lambda: _discard(prepare(self.work, options)))
            self._prepared = prepare(self.work, options)
        return self._prepared

    def prepared_sizes(self) -> dict[str, int]:
        """Training tokens of the corpora that are prepared already; nothing is prepared."""
        folders = {name: self.layout.corpus(name) for name in self.recipe.corpora}
        return {name: open_corpus(path).tokens(TRAIN) for name, path in folders.items() if is_prepared(path)}

    def training_run(self, model: str) -> TrainingRun:
        """The run that trains a model; see `tinyllama.train.train`.

        Raises:
            SourceError: a corpus it needs is unavailable.
        """
        from tinyllama.family.train import training_run  # imports torch

        return training_run(self.work, self.prepare(), model)

    def train(self, *models: str) -> dict[str, Checkpoint]:
        """Train models to their end, from wherever they stand; the base comes first, since all others need it.

        Args:
            models: `base` or variants; all of them by default.

        Returns:
            The last checkpoint of each model trained.

        Raises:
            UserError: the recipe has no such model.
            SourceError: a corpus that a model needs is unavailable.
            Interrupted: a signal asked to stop; the state was saved first.
        """
        from tinyllama.family.train import train_model  # imports torch

        if unknown := [model for model in models if model not in self.models]:
            raise UserError(f"{self.recipe.name} has no model {unknown[0]!r}; it has {', '.join(self.models)}")
        wanted = dict.fromkeys([BASE, *(models or self.models)])
        return {model: train_model(self.work, self.prepare(), model) for model in wanted}

    def import_start(self) -> tuple[Checkpoint, ParityResult | None]:
        """Import the model that the recipe starts from, again if that was done; see `import_model`."""
        from tinyllama.family.import_model import import_model  # imports torch

        return import_model(self.recipe, self.layout, lambda: prepare_tokenizer(self.work), self.work.progress)

    def finished(self) -> dict[str, Checkpoint]:
        """The newest good checkpoint of every model that has one.

        Raises:
            ModelError: no model has one.
        """
        from tinyllama.family.trained import finished  # imports torch

        return finished(self.work)

    def evaluate(self, data: Path | str | None = None) -> dict[str, EvaluationRecord]:
        """Measure every trained model: bits per byte on every corpus, and the recipe's tasks.

        Args:
            data: folder with local copies of the tasks' data; the recipe's by default.

        Returns:
            The evaluation record of each model.
        """
        from tinyllama.family.evaluate import evaluate_family  # imports torch

        checkpoints = self.finished()  # first: what is not trained is an error before anything is prepared
        return evaluate_family(self.work, self.prepare(), checkpoints, self.task_data(data))

    def export(
        self, form: str = "hf", *, precision: str | None = None, data: Path | str | None = None
    ) -> dict[str, Path]:
        """Write every trained model in a form that other tools load, after a check against transformers.

        Args:
            form: `hf` for Hugging Face folders with a model card, or `gguf` for GGUF files with an Ollama Modelfile.
            precision: of a GGUF file's matrices: F32, F16 (default), BF16 or Q8_0; Hugging Face folders are in fp32.
            data: folder with local copies of the tasks' data, whose scores the cards of Hugging Face folders show; the
                recipe's by default.

        Returns:
            The folder of each model.

        Raises:
            UserError: an unknown form, or an option that the form does not have.
            ModelError: a model is not trained, or its shape is not the recipe's.
            ExportError: transformers computes other logits.
        """
        from tinyllama.family.export import export_family  # imports torch

        if data is not None and form != "hf":
            raise UserError("data is an option of Hugging Face folders, whose cards show scores")
        return export_family(self.work, self.finished(), form, precision, lambda: (self.prepare(), self.evaluate(data)))

    def report(self, data: Path | str | None = None) -> FamilySummary:
        """Evaluate and export what is trained, and write summary.json and report.html.

        Args:
            data: folder with local copies of the tasks' data; the recipe's by default.

        Returns:
            The figures of the family, which summary.json holds.
        """
        from tinyllama.family.report import report_family  # imports torch

        self.finished()  # what is not trained is an error before anything is prepared
        return report_family(self.work, self.prepare(), self.task_data(data))

    def reproduce(self, data: Path | str | None = None) -> FamilySummary:
        """Prepare, train, evaluate, export and report; skips what is done and valid.

        A model whose text is unavailable is skipped with a message; the others are trained.

        Args:
            data: folder with local copies of the tasks' data; the recipe's by default.

        Returns:
            The figures of the family, which summary.json holds.
        """
        from tinyllama.family.train import train_model  # imports torch

        with self.work.timed("prepare"):
            prepared = self.prepare()
        for model in self.models:
            if lacking := prepared.lacking(self.recipe, model):
                self.work.progress.say(f"{model}: skipped, since {', '.join(lacking)} is unavailable")
            else:
                train_model(self.work, prepared, model)
        return self.report(data)

    def task_data(self, data: Path | str | None) -> Path:
        """Folder with local copies of the tasks' data: `data`, or the recipe's."""
        return Path(self.recipe.evaluation.data if data is None else data)


def _discard(_result: object) -> None:
    """What rank 0 prepared is opened by each rank from the disk, not sent."""
