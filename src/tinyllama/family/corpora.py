"""The preparations of a corpus: the first one, and those beside it that were made after models were trained on it."""

from __future__ import annotations

from functools import cached_property, partial
from typing import TYPE_CHECKING

from tinyllama.checkpoint.store import checkpoint_store
from tinyllama.corpus.manifest import open_corpus
from tinyllama.errors import CheckpointError, CorpusError, EvaluationError
from tinyllama.layout import FamilyLayout
from tinyllama.paths import expand_path
from tinyllama.prepare.changes import source_changes
from tinyllama.prepare.job import present_corpus
from tinyllama.prepare.prepare import corpus_request, prepare_corpus
from tinyllama.prepare.reuse import is_reusable, link_corpus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tinyllama.corpus.manifest import CorpusRequest, PreparedCorpus
    from tinyllama.family.workspace import Workspace
    from tinyllama.prepare.prepare import PrepareOptions
    from tinyllama.tokenizer.base import Tokenizer

_KEY = "corpora."


class Trained:
    """What the checkpoints of a family say that its models were trained on; they are read when it is asked for."""

    def __init__(self, work: Workspace) -> None:
        self._work = work

    @cached_property
    def _by_model(self) -> dict[str, dict[str, str]]:
        """Model → corpus → its identity, for each model that has a checkpoint."""
        layout = self._work.layout
        there = (path.parent.name for path in layout.root.glob("*/checkpoints"))
        found = {model: self._newest(model) for model in dict.fromkeys([*self._work.models, *there])}
        return {model: corpora for model, corpora in found.items() if corpora is not None}

    def _newest(self, model: str) -> dict[str, str] | None:
        store = checkpoint_store(self._work.recipe, self._work.layout.root, model)
        for step in reversed(store.steps()):
            try:
                inputs = store.state(step).fingerprint_inputs.root
            except CheckpointError:  # a damaged one; the one before it is restored
                continue
            return {key.removeprefix(_KEY): str(value) for key, value in inputs.items() if key.startswith(_KEY)}
        return None

    def models_on(self, corpus: PreparedCorpus) -> list[str]:
        """The models that were trained on a corpus."""
        return [model for model, corpora in self._by_model.items() if corpora.get(corpus.name) == corpus.sha256]

    def corpora_of(self, model: str) -> Mapping[str, str]:
        """Corpus → identity that a model resumes with: its own checkpoints', else those of the model that it forks."""
        path = reversed(self._work.recipe.ancestry(model))
        return next((self._by_model[name] for name in path if name in self._by_model), {})


def prepare_versions(  # noqa: PLR0913  # what to prepare (3), how, two rules, and other corpora
    work: Workspace,
    name: str,
    tokenizer: Tokenizer,
    options: PrepareOptions,
    *,
    trained: Trained,
    look: bool,
    before: Sequence[PreparedCorpus] = (),
) -> list[PreparedCorpus]:
    """The preparations of a corpus that suit the recipe, oldest first; makes one if there is none.

    If the sources changed since the newest one, it is prepared again; but if a model was trained on it, it stays, and
    with `options.refresh` another one is made beside it.

    Args:
        work: the family.
        name: the corpus's name in the recipe.
        tokenizer: the family's tokenizer.
        options: how to prepare.
        trained: what the family's models were trained on.
        look: compare the sources with those that the corpus was prepared from.
        before: the corpora of whose documents this one holds no copies.

    Raises:
        CorpusError, SourceError, WorkerLostError, UserError: see `prepare_corpus`.
    """
    layout, corpus = work.layout, work.recipe.corpora[name]
    folders = layout.corpus_versions(name)
    request = corpus_request(work.recipe, name, tokenizer.sha256)
    present = [found for folder in folders if (found := present_corpus(folder, request)) is not None]

    def prepared(folder: Path) -> PreparedCorpus:
        with work.progress.counting(f"corpus {folder.name}") as count:
            return prepare_corpus(
                work.recipe,
                name,
                tokenizer,
                folder,
                work.root,
                count,
                options,
                replace=True,
                questions=partial(_questions, work, name),
                before=before,
            )

    if not present:
        folder = _free_folder(work, name, trained)
        if options.reuse is not None and (other := _reusable(work, name, request, options.reuse, before)) is not None:
            work.progress.say(f"corpus {name}: the same as {other.folder}, whose files are linked")
            return [link_corpus(other, folder)]
        return [prepared(folder)]
    newest = present[-1]
    changes = source_changes(newest, corpus, work.root, before, thorough=options.refresh) if look else None
    if not changes:
        return present
    if not (models := trained.models_on(newest)):
        work.progress.say(f"corpus {name}: {changes} since it was prepared; it is prepared again")
        return [*present[:-1], prepared(newest.folder)]
    if options.refresh:
        beside = layout.corpus(name, len(folders) + 1)
        work.progress.say(
            f"corpus {name}: {changes} since it was prepared; it is prepared anew in {beside}, and {newest.folder} "
            f"stays for {', '.join(models)}"
        )
        return [*present, prepared(beside)]
    work.progress.say(
        f"corpus {name}: {changes} since it was prepared; it is kept as it was, since {', '.join(models)} "
        "was trained on it (--refresh-corpora prepares a new one beside it)"
    )
    return present


def _reusable(
    work: Workspace, name: str, request: CorpusRequest, family: Path, before: Sequence[PreparedCorpus]
) -> PreparedCorpus | None:
    """The corpus of another family that preparing one here would give; None if it has none."""
    corpus = work.recipe.corpora[name]
    questions = _questions(work, name, corpus.decontaminate) if corpus.decontaminate else {}
    for folder in reversed(FamilyLayout(family).corpus_versions(name)):
        found = present_corpus(folder, request)
        if found is None or found.name != name:
            continue
        if is_reusable(found, corpus, work.root, before, questions):
            return found
    return None


def _questions(work: Workspace, corpus: str, tasks: Sequence[str]) -> dict[str, list[str]]:
    """Texts of the questions of the tasks and groups in a corpus's `decontaminate`.

    Raises:
        EvaluationError: no task has such a name, or its data is unavailable or has another layout.
    """
    from tinyllama.evaluation.catalogue import expand_tasks
    from tinyllama.evaluation.contamination import read_questions

    questions, missing = read_questions(expand_tasks(tasks), expand_path(work.recipe.evaluation.data))
    for task, found in missing.items():
        raise EvaluationError(
            f"corpora.{corpus}.decontaminate: the questions of {task} are unavailable: {found.reason}"
        )
    return questions


def _free_folder(work: Workspace, name: str, trained: Trained) -> Path:
    """The folder for a corpus that is not prepared: never one with a corpus that a model was trained on."""
    folders = work.layout.corpus_versions(name)
    for folder in reversed(folders):
        try:
            there = open_corpus(folder)
        except CorpusError:  # nothing complete
            return folder
        if not (models := trained.models_on(there)):
            return folder
        work.progress.say(f"corpus {name}: {folder} stays as it is, since {', '.join(models)} was trained on it")
    return work.layout.corpus(name, len(folders) + 1)
