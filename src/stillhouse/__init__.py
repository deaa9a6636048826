"""stillhouse: from a handful of examples, or any data set, to a small model that can be trusted.

The public names resolve when they are first used, so that `import stillhouse` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .calls.ask import Ask as Ask
    from .calls.bm25 import Bm25 as Bm25
    from .calls.budget import Budget as Budget
    from .calls.credentials import Credentials as Credentials
    from .calls.embedder import Embedder as Embedder
    from .calls.endpoint import Endpoint as Endpoint
    from .calls.prices import Price as Price
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
    from .curate.band import Band as Band
    from .curate.best_apart import BestApart as BestApart
    from .curate.decontaminate import Decontaminate as Decontaminate
    from .curate.dedup import Dedup as Dedup
    from .curate.diverse_subset import DiverseSubset as DiverseSubset
    from .curate.diversity import Diversity as Diversity
    from .curate.diversity import diversity as diversity
    from .curate.funnel import funnel as funnel
    from .curate.funnel import funnel_svg as funnel_svg
    from .curate.funnel import funnel_text as funnel_text
    from .curate.keep import Keep as Keep
    from .curate.language import Language as Language
    from .curate.length_band import LengthBand as LengthBand
    from .curate.perplexity import Perplexity as Perplexity
    from .curate.pii import NoPii as NoPii
    from .curate.pii import Pii as Pii
    from .curate.quality import MeasureText as MeasureText
    from .curate.quality import Quality as Quality
    from .curate.rule import Rule as Rule
    from .curate.semantic_dedup import SemanticDedup as SemanticDedup
    from .curate.split_apart import SplitApart as SplitApart
    from .engines.ray import RayEngine as RayEngine
    from .evaluate.compare import Compare as Compare
    from .evaluate.neighbour import NearestNeighbour as NearestNeighbour
    from .evaluate.novelty import Novelty as Novelty
    from .evaluate.overlap import RefuseOverlap as RefuseOverlap
    from .evaluate.predict import Predict as Predict
    from .generate.amplify import Amplify as Amplify
    from .generate.answer import Answer as Answer
    from .generate.attributed import DataFromAttributedPrompt as DataFromAttributedPrompt
    from .generate.backtranslate import Backtranslate as Backtranslate
    from .generate.calibration import Calibrate as Calibrate
    from .generate.converse import Converse as Converse
    from .generate.cot import SynthesizeCoT as SynthesizeCoT
    from .generate.data_from_prompt import DataFromPrompt as DataFromPrompt
    from .generate.embed import CosineSimilarity as CosineSimilarity
    from .generate.embed import Embed as Embed
    from .generate.evolve import Evolve as Evolve
    from .generate.few_shot import FewShot as FewShot
    from .generate.few_shot_with_retrieval import FewShotWithRetrieval as FewShotWithRetrieval
    from .generate.filter_with_prompt import FilterWithPrompt as FilterWithPrompt
    from .generate.index import Hnsw as Hnsw
    from .generate.index import Index as Index
    from .generate.judge_pairs import JudgePairs as JudgePairs
    from .generate.judges import PairJudge as PairJudge
    from .generate.judges_text import judges_text as judges_text
    from .generate.magpie import Magpie as Magpie
    from .generate.majority_vote import MajorityVote as MajorityVote
    from .generate.personas import PersonaPrompt as PersonaPrompt
    from .generate.personas import PersonaToPersona as PersonaToPersona
    from .generate.personas import TextToPersona as TextToPersona
    from .generate.policy import ExtractPolicy as ExtractPolicy
    from .generate.preference_pairs import PreferencePairs as PreferencePairs
    from .generate.process import ProcessWithPrompt as ProcessWithPrompt
    from .generate.prompt import Prompt as Prompt
    from .generate.rag import RAG as RAG
    from .generate.retrieve import Retrieve as Retrieve
    from .generate.revise import Revise as Revise
    from .generate.rewrite import Rewrite as Rewrite
    from .generate.rubric import Criterion as Criterion
    from .generate.rubric import JudgeRubric as JudgeRubric
    from .generate.rubric import Rubric as Rubric
    from .generate.score_with_prompt import RankWithPrompt as RankWithPrompt
    from .generate.score_with_prompt import ScoreWithPrompt as ScoreWithPrompt
    from .generate.self_instruct import SelfInstruct as SelfInstruct
    from .generate.task_model import RunTaskModel as RunTaskModel
    from .generate.tool_tasks import ToolTasks as ToolTasks
    from .generate.tool_traces import ToolTraces as ToolTraces
    from .generate.verify import Verify as Verify
    from .measure.agreement import Agreement as Agreement
    from .measure.code_verifier import CodeVerifier as CodeVerifier
    from .measure.combined_verifiers import Accepted as Accepted
    from .measure.combined_verifiers import AllOf as AllOf
    from .measure.combined_verifiers import AnyOf as AnyOf
    from .measure.combined_verifiers import MetricVerifier as MetricVerifier
    from .measure.exact_match import ExactMatch as ExactMatch
    from .measure.function_verifier import FunctionVerifier as FunctionVerifier
    from .measure.json_fields import JsonFields as JsonFields
    from .measure.limits import Limits as Limits
    from .measure.math_verifier import MathVerifier as MathVerifier
    from .measure.number_verifier import NumberVerifier as NumberVerifier
    from .measure.schema_verifier import SchemaVerifier as SchemaVerifier
    from .measure.text_verifiers import ContainsVerifier as ContainsVerifier
    from .measure.text_verifiers import ListVerifier as ListVerifier
    from .measure.text_verifiers import RegexVerifier as RegexVerifier
    from .measure.token_f1 import TokenF1 as TokenF1
    from .measure.verdict import Verdict as Verdict
    from .models.adapter import Lora as Lora
    from .models.boundaries import check_boundaries as check_boundaries
    from .models.generate import Generator as Generator
    from .models.merge import Merge as Merge
    from .models.pretrained import Pretrained as Pretrained
    from .models.scratch import FromScratch as FromScratch
    from .publish.report import ReportPage as ReportPage
    from .recipes.datasets import attributed_texts as attributed_texts
    from .recipes.datasets import augmented_rows as augmented_rows
    from .recipes.datasets import cleaned_rows as cleaned_rows
    from .recipes.datasets import instruction_pairs as instruction_pairs
    from .recipes.datasets import question_answers as question_answers
    from .recipes.datasets import self_rewarded_pairs as self_rewarded_pairs
    from .recipes.datasets import translated_rows as translated_rows
    from .recipes.distill import DistillResult as DistillResult
    from .recipes.distill import distill as distill
    from .recipes.distillation import Distillation as Distillation
    from .recipes.distillation import distillation as distillation
    from .recipes.file import load_recipe as load_recipe
    from .recipes.mix import Mix as Mix
    from .recipes.mix import mix as mix
    from .recipes.scratch import Scratch as Scratch
    from .rows.columns import Rename as Rename
    from .rows.columns import Select as Select
    from .rows.combine import Concat as Concat
    from .rows.combine import Join as Join
    from .rows.combine import Zip as Zip
    from .rows.conversation import ToMessages as ToMessages
    from .rows.export import Export as Export
    from .rows.export import to_dataset as to_dataset
    from .rows.export import write_rows as write_rows
    from .rows.grid import Grid as Grid
    from .rows.import_ import Import as Import
    from .rows.order import Shuffle as Shuffle
    from .rows.order import Sort as Sort
    from .rows.preview import preview as preview
    from .rows.preview import preview_html as preview_html
    from .rows.sample import Sample as Sample
    from .rows.slices import Skip as Skip
    from .rows.slices import Take as Take
    from .rows.split import Split as Split
    from .rows.transform import Filter as Filter
    from .rows.transform import Map as Map
    from .text.analysis import token_analysis as token_analysis
    from .text.analysis import vocabulary_advice as vocabulary_advice
    from .text.pretrained_tokenizer import PretrainedTokenizer as PretrainedTokenizer
    from .text.schema import Schema as Schema
    from .text.train_tokenizer import TrainTokenizer as TrainTokenizer
    from .tokens.foreign import ImportTokens as ImportTokens
    from .tokens.loader import get_loader as get_loader
    from .tokens.mixing import Mixture as Mixture
    from .tokens.pack import Pack as Pack
    from .tokens.packing import Packing as Packing
    from .tokens.policy import NaturalMix as NaturalMix
    from .tokens.policy import ScheduledMix as ScheduledMix
    from .tokens.policy import StaticMix as StaticMix
    from .tokens.policy import TemperatureMix as TemperatureMix
    from .tokens.reweight import Reweight as Reweight
    from .tokens.source import Source as Source
    from .tokens.tokenize import Tokenize as Tokenize
    from .tokens.window_shuffle import WindowShuffle as WindowShuffle
    from .track.plot import plot_png as plot_png
    from .track.plot import plot_text as plot_text
    from .track.query import query as query
    from .track.run import Run as Run
    from .train.finetune import Finetune as Finetune
    from .train.losses.cross_entropy import CrossEntropy as CrossEntropy
    from .train.muon import Muon as Muon
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
    "Grid": "rows.grid",
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
    "Sample": "rows.sample",
    "Export": "rows.export",
    "write_rows": "rows.export",
    "to_dataset": "rows.export",
    "preview": "rows.preview",
    "preview_html": "rows.preview",
    "TrainTokenizer": "text.train_tokenizer",
    "PretrainedTokenizer": "text.pretrained_tokenizer",
    "token_analysis": "text.analysis",
    "vocabulary_advice": "text.analysis",
    "check_boundaries": "models.boundaries",
    "Pretrained": "models.pretrained",
    "FromScratch": "models.scratch",
    "Lora": "models.adapter",
    "Merge": "models.merge",
    "Generator": "models.generate",
    "Source": "tokens.source",
    "Mixture": "tokens.mixing",
    "StaticMix": "tokens.policy",
    "NaturalMix": "tokens.policy",
    "TemperatureMix": "tokens.policy",
    "ScheduledMix": "tokens.policy",
    "ImportTokens": "tokens.foreign",
    "Pack": "tokens.pack",
    "Packing": "tokens.packing",
    "WindowShuffle": "tokens.window_shuffle",
    "Reweight": "tokens.reweight",
    "Tokenize": "tokens.tokenize",
    "get_loader": "tokens.loader",
    "Ask": "calls.ask",
    "Schema": "text.schema",
    "Endpoint": "calls.endpoint",
    "Credentials": "calls.credentials",
    "Budget": "calls.budget",
    "Price": "calls.prices",
    "ExactMatch": "measure.exact_match",
    "TokenF1": "measure.token_f1",
    "JsonFields": "measure.json_fields",
    "Agreement": "measure.agreement",
    "FunctionVerifier": "measure.function_verifier",
    "Limits": "measure.limits",
    "SchemaVerifier": "measure.schema_verifier",
    "Verdict": "measure.verdict",
    "NumberVerifier": "measure.number_verifier",
    "RegexVerifier": "measure.text_verifiers",
    "ContainsVerifier": "measure.text_verifiers",
    "ListVerifier": "measure.text_verifiers",
    "CodeVerifier": "measure.code_verifier",
    "AllOf": "measure.combined_verifiers",
    "AnyOf": "measure.combined_verifiers",
    "MetricVerifier": "measure.combined_verifiers",
    "Accepted": "measure.combined_verifiers",
    "MathVerifier": "measure.math_verifier",
    "Prompt": "generate.prompt",
    "ProcessWithPrompt": "generate.process",
    "Rewrite": "generate.rewrite",
    "FewShot": "generate.few_shot",
    "DataFromPrompt": "generate.data_from_prompt",
    "DataFromAttributedPrompt": "generate.attributed",
    "Evolve": "generate.evolve",
    "Magpie": "generate.magpie",
    "Converse": "generate.converse",
    "ToolTraces": "generate.tool_traces",
    "ToolTasks": "generate.tool_tasks",
    "SelfInstruct": "generate.self_instruct",
    "Backtranslate": "generate.backtranslate",
    "TextToPersona": "generate.personas",
    "PersonaToPersona": "generate.personas",
    "PersonaPrompt": "generate.personas",
    "ExtractPolicy": "generate.policy",
    "SynthesizeCoT": "generate.cot",
    "FilterWithPrompt": "generate.filter_with_prompt",
    "ScoreWithPrompt": "generate.score_with_prompt",
    "RankWithPrompt": "generate.score_with_prompt",
    "Criterion": "generate.rubric",
    "Rubric": "generate.rubric",
    "JudgeRubric": "generate.rubric",
    "Calibrate": "generate.calibration",
    "JudgePairs": "generate.judge_pairs",
    "PairJudge": "generate.judges",
    "judges_text": "generate.judges_text",
    "Amplify": "generate.amplify",
    "Answer": "generate.answer",
    "Embedder": "calls.embedder",
    "Bm25": "calls.bm25",
    "Embed": "generate.embed",
    "CosineSimilarity": "generate.embed",
    "Index": "generate.index",
    "Hnsw": "generate.index",
    "Retrieve": "generate.retrieve",
    "RAG": "generate.rag",
    "FewShotWithRetrieval": "generate.few_shot_with_retrieval",
    "RunTaskModel": "generate.task_model",
    "MajorityVote": "generate.majority_vote",
    "Verify": "generate.verify",
    "PreferencePairs": "generate.preference_pairs",
    "Revise": "generate.revise",
    "Dedup": "curate.dedup",
    "Keep": "curate.keep",
    "SplitApart": "curate.split_apart",
    "Decontaminate": "curate.decontaminate",
    "funnel_svg": "curate.funnel",
    "diversity": "curate.diversity",
    "Diversity": "curate.diversity",
    "Perplexity": "curate.perplexity",
    "LengthBand": "curate.length_band",
    "Band": "curate.band",
    "NoPii": "curate.pii",
    "Pii": "curate.pii",
    "Language": "curate.language",
    "MeasureText": "curate.quality",
    "Quality": "curate.quality",
    "Rule": "curate.rule",
    "BestApart": "curate.best_apart",
    "DiverseSubset": "curate.diverse_subset",
    "SemanticDedup": "curate.semantic_dedup",
    "funnel": "curate.funnel",
    "funnel_text": "curate.funnel",
    "Finetune": "train.finetune",
    "Sft": "train.objectives.sft",
    "CrossEntropy": "train.losses.cross_entropy",
    "AdamW": "train.optimiser",
    "Muon": "train.muon",
    "Cosine": "train.schedule",
    "Constant": "train.schedule",
    "Predict": "evaluate.predict",
    "NearestNeighbour": "evaluate.neighbour",
    "Compare": "evaluate.compare",
    "Novelty": "evaluate.novelty",
    "RefuseOverlap": "evaluate.overlap",
    "query": "track.query",
    "plot_png": "track.plot",
    "plot_text": "track.plot",
    "Run": "track.run",
    "ReportPage": "publish.report",
    "Scratch": "recipes.scratch",
    "Distillation": "recipes.distillation",
    "distillation": "recipes.distillation",
    "DistillResult": "recipes.distill",
    "distill": "recipes.distill",
    "load_recipe": "recipes.file",
    "mix": "recipes.mix",
    "Mix": "recipes.mix",
    "attributed_texts": "recipes.datasets",
    "augmented_rows": "recipes.datasets",
    "cleaned_rows": "recipes.datasets",
    "instruction_pairs": "recipes.datasets",
    "question_answers": "recipes.datasets",
    "self_rewarded_pairs": "recipes.datasets",
    "translated_rows": "recipes.datasets",
    "RayEngine": "engines.ray",
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
