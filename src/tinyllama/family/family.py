"""A family: one recipe in one folder, and every phase from text to report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tinyllama.corpus.manifest import TRAIN, open_corpus, prepared_versions
from tinyllama.errors import UserError
from tinyllama.family.preflight import (
    ALL_PHASES,
    CHECKS,
    CHECKS_OF_TEXT,
    Situation,
    refuse_faults,
    run_checks,
)
from tinyllama.family.prepare import Prepared, prepare, prepare_tokenizer
from tinyllama.family.progress import SILENT
from tinyllama.family.workspace import Workspace
from tinyllama.layout import BASE, FamilyLayout
from tinyllama.paths import expand_path, refuse_not_utf8
from tinyllama.prepare.prepare import PrepareOptions
from tinyllama.recipe import Recipe, load_recipe

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from tinyllama.checkpoint.format import Checkpoint
    from tinyllama.evaluation.record import EvaluationRecord
    from tinyllama.export import ParityResult
    from tinyllama.family.preflight import Check, CheckResult, Phase
    from tinyllama.family.progress import Progress
    from tinyllama.report.summary import FamilySummary
    from tinyllama.train.ranks import Ranks
    from tinyllama.train.run import TrainingRun


class Family:
    """One recipe in one folder. Every output is kept, and is made again only if its inputs change.

    Each phase is a method that computes missing outputs and returns all of them: `prepare`, `train`, `evaluate`,
    `export`, `report`; `reproduce` runs all of them in order. After an interruption, the same call resumes.
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
        """Bind a recipe to a folder; write nothing yet.

        Args:
            recipe: a recipe, the name of a shipped one, or the path of a YAML file.
            folder: folder of all the family's outputs; `runs/<recipe name>` by default.
            root: base of relative paths in the recipe.
            progress: receives messages and counts; nothing is shown by default.
            ranks: the processes that train together, from `join_ranks`; None for a single process.

        Raises:
            RecipeError: the recipe cannot be found, read or validated.
            UserError: the path of the folder is not UTF-8.
        """
        recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
        folder = Path("runs") / recipe.name if folder is None else expand_path(folder)
        refuse_not_utf8(folder)
        self.work = Workspace(recipe, FamilyLayout(folder), Path(root), progress, ranks)
        self._prepared: Prepared | None = None
        self._checked: set[Phase] = set()
        """The phases before which all checks were passed."""
        self.notes = list[str]()
        """What the checks found and have shown, other than faults."""

    @property
    def recipe(self) -> Recipe:
        """The family's recipe."""
        return self.work.recipe

    @property
    def folder(self) -> Path:
        """The folder of all the family's outputs."""
        return self.work.layout.root

    @property
    def layout(self) -> FamilyLayout:
        """The paths of all outputs in the folder."""
        return self.work.layout

    @property
    def models(self) -> list[str]:
        """`base`, the variants and the branches, each after its parent."""
        return self.work.models

    def prepare(self, options: PrepareOptions | None = None, *, look: bool = True) -> Prepared:
        """Obtain the tokenizer and prepare every corpus whose source is available; takes minutes to days.

        Args:
            options: workers, executor and checks, which do not change the result, and whether to prepare anew what
                changed after models were trained on it. Later calls return what the first call prepared.
            look: prepare a corpus again if its sources changed since and no model was trained on it.

        Raises:
            PreflightError: a check found what would end preparation, training or the report later; see `check`.
            CorpusError: the text or the tokenizer does not meet the requirements.
            SourceError: the tokenizer is unavailable. A corpus whose source is unavailable is listed in `missing`.
        """
        self._refuse_faults({"prepare"}, self.models)
        return self._prepare(options, look=look)

    def _prepare(self, options: PrepareOptions | None = None, *, look: bool = True) -> Prepared:
        """Prepare what is missing, without checks."""
        if self._prepared is None:
            options, ranks = options or PrepareOptions(), self.work.ranks
            if ranks is not None:  # rank 0 prepares; the other ranks open the result
                with ranks.phase("the preparation of the corpora; run `tinyllama prepare` before training"):
                    ranks.run_on_rank0(lambda: _discard(prepare(self.work, options)))
            self._prepared = prepare(self.work, options, look=look and ranks is None)
        return self._prepared

    def check(
        self,
        phases: Collection[Phase] = ALL_PHASES,
        *,
        models: Sequence[str] | None = None,
        data: Path | str | None = None,
        here: bool = True,
    ) -> list[CheckResult]:
        """Check all that can be known before a phase begins; prepares and trains nothing.

        `prepare`, `train` and `reproduce` run these checks first, and end if one of them finds a fault.

        Args:
            phases: what is about to be done: `prepare`, `train`, `report` (which evaluates and exports). What another
                phase alone needs is a note and no fault.
            models: those to train; all by default.
            data: folder with local copies of the tasks' data; the recipe's by default.
            here: whether training runs on this machine.

        Returns:
            What each check found, in a fixed order.
        """
        return run_checks(CHECKS, self._situation(phases, models or self.models, data, here=here))

    def check_prepared(self) -> None:
        """Check the prepared corpora against the model's context, and the prompts with the tokenizer.

        Raises:
            PreflightError: a part of a corpus is shorter than a row, or a prompt does not fit the context.
        """
        refuse_faults(self._check_prepared({"prepare", "train"}, self.models, skips_models=True))

    def _refuse_faults(
        self,
        phases: Collection[Phase],
        models: Sequence[str],
        data: Path | str | None = None,
        *,
        skips_models: bool = False,
    ) -> None:
        """Run all checks once a phase, on the first rank; show notes, and end the command if there is a fault."""
        if not self._checked.issuperset(phases):
            situation = self._situation(phases, models, data, skips_models=skips_models)
            self._on_rank0(lambda: self._report(CHECKS, situation))
            self._checked.update(phases)

    def _check_prepared(
        self, phases: Collection[Phase], models: Sequence[str], *, skips_models: bool = False
    ) -> list[CheckResult]:
        """Run the checks that know more once the corpora are prepared."""
        return run_checks(CHECKS_OF_TEXT, self._situation(phases, models, None, skips_models=skips_models))

    def _report(self, checks: Sequence[Check], situation: Situation) -> None:
        results = run_checks(checks, situation)
        for note in dict.fromkeys(note for result in results for note in result.notes):
            self.work.progress.say(f"note: {note}")
            self.notes.append(note)
        refuse_faults(results)

    def _on_rank0(self, function: Callable[[], None]) -> None:
        if self.work.ranks is None:
            function()
        else:
            with self.work.ranks.phase("the checks before the first step"):
                self.work.ranks.run_on_rank0(function)

    def _situation(
        self,
        phases: Collection[Phase],
        models: Sequence[str],
        data: Path | str | None,
        *,
        here: bool = True,
        skips_models: bool = False,
    ) -> Situation:
        work, prepared = self.work, self._prepared
        return Situation(
            recipe=work.recipe,
            layout=work.layout,
            root=work.root,
            data=self.task_data(data),
            phases=frozenset(phases),
            models=tuple(models),
            ranks=1 if work.ranks is None else work.ranks.count,
            per_node=1 if work.ranks is None else work.ranks.per_node,
            here=here,
            skips_models=skips_models,
            tokenizer=None if prepared is None else prepared.tokenizer,
            prepared=None if prepared is None else prepared.corpora,
            missing={} if prepared is None else prepared.missing,
        )

    def prepared_sizes(self) -> dict[str, int]:
        """Training tokens of the corpora that are already prepared; prepares nothing."""
        versions = {name: prepared_versions(self.layout, name) for name in self.recipe.corpora}
        return {name: open_corpus(found[-1]).tokens(TRAIN) for name, found in versions.items() if found}

    def training_run(self, model: str) -> TrainingRun:
        """The run that trains a model; see `tinyllama.train.train`.

        Raises:
            SourceError: a corpus that the model needs is unavailable.
        """
        from tinyllama.family.train import training_run  # imports torch

        return training_run(self.work, self.prepare(), model)

    def train(self, *models: str, refresh_corpora: bool = False, profile: range | None = None) -> dict[str, Checkpoint]:
        """Train models to the end, resuming from their last checkpoints, each after those that it forks from.

        Args:
            models: `base` or names of variants and branches; all by default.
            refresh_corpora: prepare corpora anew whose sources changed after models were trained on them.
            profile: steps, counted from 1, of which each model that does them writes a profile into its folder.

        Returns:
            The last checkpoint of each model trained.

        Raises:
            UserError: the recipe has no such model, or none of them has a step to profile.
            PreflightError: a check found what would end training; see `check`.
            Interrupted: a signal stopped training; the state was saved first.
        """
        from tinyllama.family.train import refuse_no_step, train_model  # imports torch

        if unknown := [model for model in models if model not in self.models]:
            raise UserError(f"{self.recipe.name} has no model {unknown[0]!r}; it has {', '.join(self.models)}")
        asked = [BASE, *(models or self.models)]
        wanted = list(dict.fromkeys(name for model in asked for name in self.recipe.ancestry(model)))
        self._refuse_faults({"prepare", "train"}, wanted)
        if profile is not None:
            refuse_no_step(self.work, wanted, profile)
        prepared = self._prepare(PrepareOptions(refresh=refresh_corpora))
        self._on_rank0(lambda: refuse_faults(self._check_prepared({"train"}, wanted)))
        return {model: train_model(self.work, prepared, model, profile) for model in wanted}

    def import_start(self) -> tuple[Checkpoint, ParityResult | None]:
        """Import the model that the recipe starts from, even if it was imported before; see `import_model`."""
        from tinyllama.family.import_model import import_model  # imports torch

        self.work.claim()
        return import_model(self.recipe, self.layout, lambda: prepare_tokenizer(self.work), self.work.progress)

    def finished(self) -> dict[str, Checkpoint]:
        """The newest good checkpoint of every model that has one.

        Raises:
            ModelError: no model has one.
            CheckpointError: a model was trained with another recipe; the message names the first key that differs.
        """
        from tinyllama.family.trained import finished  # imports torch

        return finished(self.work)

    def _trained(self) -> tuple[Workspace, dict[str, Checkpoint]]:
        """What is finished, and the family in the precision that it was trained in."""
        from tinyllama.family.trained import as_trained  # imports torch

        checkpoints = self.finished()
        return as_trained(self.work, checkpoints), checkpoints

    def evaluate(self, data: Path | str | None = None) -> dict[str, EvaluationRecord]:
        """Evaluate every trained model: bits per byte on every corpus, and scores on the recipe's tasks.

        Args:
            data: folder with local copies of the tasks' data; the recipe's by default.

        Returns:
            The evaluation record of each model.

        Raises:
            ModelError: no model is trained.
            CheckpointError: a model was trained with another recipe.
        """
        from tinyllama.family.evaluate import evaluate_family  # imports torch

        work, checkpoints = self._trained()  # first, so that an untrained family fails before anything is prepared
        return evaluate_family(work, self._prepare(), checkpoints, self.task_data(data))

    def export(
        self,
        form: str = "hf",
        *,
        precision: str | None = None,
        data: Path | str | None = None,
        imatrix: bool = False,
    ) -> dict[str, Path]:
        """Write every trained model in a form that other tools load, after a check against transformers.

        Args:
            form: `hf` for Hugging Face folders with a model card, or `gguf` for GGUF files with an Ollama Modelfile.
            precision: of the matrices: F32, F16 or BF16, and in GGUF files also Q8_0 and the types that llama.cpp
                quantizes, Q6_K, Q5_K_M, Q4_K_M, Q4_0 and IQ4_NL; F32 by default, or F16 in GGUF files.
            data: folder with local copies of the tasks' data, whose scores the cards of Hugging Face folders show; the
                recipe's by default.
            imatrix: quantize with an importance matrix, computed on held-out text.

        Returns:
            The folder of each model.

        Raises:
            UserError: the form is unknown or does not support the option.
            ModelError: no model is trained.
            CheckpointError: a model was trained with another recipe.
            ExportError: transformers computes different logits, or a quantized model is too far from the F32 model.
        """
        from tinyllama.family.export import export_family  # imports torch

        if data is not None and form != "hf":
            raise UserError("data is an option of Hugging Face folders, whose cards show scores")
        (work, checkpoints), data = self._trained(), self.task_data(data)
        return export_family(
            work, checkpoints, self._prepare, form=form, precision=precision, data=data, imatrix=imatrix
        )

    def report(self, data: Path | str | None = None) -> FamilySummary:
        """Evaluate and export the trained models, and write summary.json and report.html.

        Args:
            data: folder with local copies of the tasks' data; the recipe's by default.

        Returns:
            The figures of the family, which summary.json holds.
        """
        from tinyllama.family.report import report_family  # imports torch

        work, checkpoints = self._trained()  # first, so that an untrained family fails before anything is prepared
        self._refuse_faults({"report"}, self.models, data, skips_models=True)
        return report_family(work, self._prepare(), checkpoints, self.task_data(data))

    def reproduce(self, data: Path | str | None = None, *, refresh_corpora: bool = False) -> FamilySummary:
        """Prepare, train, evaluate, export and report; skip phases whose outputs are valid.

        A model whose text is unavailable is skipped with a message; the others are trained.

        Args:
            data: folder with local copies of the tasks' data; the recipe's by default.
            refresh_corpora: see `PrepareOptions.refresh`.

        Returns:
            The figures of the family, which summary.json holds.
        """
        from tinyllama.family.train import train_model  # imports torch

        self._refuse_faults(ALL_PHASES, self.models, data, skips_models=True)
        with self.work.timed("prepare"):
            prepared = self._prepare(PrepareOptions(refresh=refresh_corpora))
        refuse_faults(self._check_prepared(ALL_PHASES, self.models, skips_models=True))
        for model in self.models:
            if lacking := prepared.lacking(self.recipe, model):
                self.work.progress.say(f"{model}: skipped, since {', '.join(lacking)} is unavailable")
            else:
                train_model(self.work, prepared, model)
        return self.report(data)

    def task_data(self, data: Path | str | None) -> Path:
        """Folder with local copies of the tasks' data: `data`, or the recipe's."""
        return expand_path(self.recipe.evaluation.data if data is None else data)


def _discard(_result: object) -> None:
    """Each rank opens what rank 0 prepared from disk; nothing is sent."""
