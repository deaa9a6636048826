"""stillhouse: from a handful of examples, or any data set, to a small model that can be trusted.

The public names resolve when they are first used, so that `import stillhouse` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .core.artifact import Artifact as Artifact
    from .core.artifact import Files as Files
    from .core.artifact import Model as Model
    from .core.artifact import Report as Report
    from .core.artifact import Rows as Rows
    from .core.artifact import Tokens as Tokens
    from .core.errors import BudgetError as BudgetError
    from .core.errors import Interrupted as Interrupted
    from .core.errors import ModelError as ModelError
    from .core.errors import RecipeError as RecipeError
    from .core.errors import RowFault as RowFault
    from .core.errors import StillhouseError as StillhouseError
    from .core.errors import StoreError as StoreError
    from .core.errors import TrainError as TrainError
    from .core.options import Options as Options
    from .core.outcome import KEEP as KEEP
    from .core.outcome import Drop as Drop
    from .core.outcome import Emit as Emit
    from .core.outcome import Fail as Fail
    from .core.part import Part as Part
    from .core.session import Session as Session
    from .core.step import GrowStep as GrowStep
    from .core.step import MapStep as MapStep
    from .core.step import Step as Step
    from .curate.decontaminate import Decontaminate as Decontaminate
    from .curate.dedup import Dedup as Dedup
    from .curate.keep import Keep as Keep
    from .curate.split_apart import SplitApart as SplitApart
    from .models.adapter import Lora as Lora
    from .models.generate import Generator as Generator
    from .models.merge import Merge as Merge
    from .models.pretrained import Pretrained as Pretrained
    from .models.scratch import FromScratch as FromScratch
    from .rows.columns import Rename as Rename
    from .rows.columns import Select as Select
    from .rows.combine import Concat as Concat
    from .rows.combine import Join as Join
    from .rows.combine import Zip as Zip
    from .rows.conversation import ToMessages as ToMessages
    from .rows.export import Export as Export
    from .rows.export import to_dataset as to_dataset
    from .rows.export import write_rows as write_rows
    from .rows.import_ import Import as Import
    from .rows.order import Shuffle as Shuffle
    from .rows.order import Sort as Sort
    from .rows.preview import preview as preview
    from .rows.slices import Skip as Skip
    from .rows.slices import Take as Take
    from .rows.split import Split as Split
    from .rows.transform import Filter as Filter
    from .rows.transform import Map as Map
    from .train.finetune import Finetune as Finetune
    from .train.losses.cross_entropy import CrossEntropy as CrossEntropy
    from .train.objectives.sft import Sft as Sft
    from .train.optimiser import AdamW as AdamW
    from .train.schedule import Constant as Constant
    from .train.schedule import Cosine as Cosine

# Public name -> the module that defines it. Type checkers read the imports above; a test holds the two together.
_HOME = {
    "StillhouseError": "core.errors",
    "RecipeError": "core.errors",
    "StoreError": "core.errors",
    "ModelError": "core.errors",
    "BudgetError": "core.errors",
    "TrainError": "core.errors",
    "Interrupted": "core.errors",
    "RowFault": "core.errors",
    "Session": "core.session",
    "Options": "core.options",
    "Step": "core.step",
    "MapStep": "core.step",
    "GrowStep": "core.step",
    "Part": "core.part",
    "KEEP": "core.outcome",
    "Drop": "core.outcome",
    "Emit": "core.outcome",
    "Fail": "core.outcome",
    "Artifact": "core.artifact",
    "Rows": "core.artifact",
    "Tokens": "core.artifact",
    "Model": "core.artifact",
    "Report": "core.artifact",
    "Files": "core.artifact",
    "Import": "rows.import_",
    "ToMessages": "rows.conversation",
    "Map": "rows.transform",
    "Filter": "rows.transform",
    "Select": "rows.columns",
    "Rename": "rows.columns",
    "Take": "rows.slices",
    "Skip": "rows.slices",
    "Shuffle": "rows.order",
    "Sort": "rows.order",
    "Concat": "rows.combine",
    "Zip": "rows.combine",
    "Join": "rows.combine",
    "Split": "rows.split",
    "Export": "rows.export",
    "write_rows": "rows.export",
    "to_dataset": "rows.export",
    "preview": "rows.preview",
    "Dedup": "curate.dedup",
    "Keep": "curate.keep",
    "SplitApart": "curate.split_apart",
    "Decontaminate": "curate.decontaminate",
    "Pretrained": "models.pretrained",
    "FromScratch": "models.scratch",
    "Lora": "models.adapter",
    "Merge": "models.merge",
    "Generator": "models.generate",
    "Finetune": "train.finetune",
    "Sft": "train.objectives.sft",
    "CrossEntropy": "train.losses.cross_entropy",
    "AdamW": "train.optimiser",
    "Cosine": "train.schedule",
    "Constant": "train.schedule",
}

__all__ = ["__version__", *_HOME]  # noqa: PLE0604

if not TYPE_CHECKING:  # a checker that saw this would take every misspelt name for one of ours

    def __getattr__(name: str) -> object:
        home = _HOME.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value: object = getattr(import_module(f".{home}", __name__), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
