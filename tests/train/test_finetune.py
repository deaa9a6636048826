"""What a training makes, and what it refuses to begin."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from stillhouse.core.artifact import Tokens
from stillhouse.core.errors import RecipeError
from stillhouse.core.serial import from_table, to_table
from stillhouse.core.session import Session
from stillhouse.core.step import Step
from stillhouse.models.adapter import Lora
from stillhouse.models.generate import GenerationReply, Generator
from stillhouse.models.loading import BASE, dtype_of, load_model
from stillhouse.models.merge import Merge
from stillhouse.models.pretrained import Pretrained
from stillhouse.models.scratch import FromScratch
from stillhouse.text.train_tokenizer import TrainTokenizer
from stillhouse.tokens.loader import get_loader
from stillhouse.tokens.packing import Method, Packing
from stillhouse.tokens.store import TokenStore
from stillhouse.tokens.tokenize import Tokenize
from stillhouse.train.checkpoint import Checkpoint, read_checkpoint
from stillhouse.train.finetune import Finetune
from stillhouse.train.optimiser import AdamW
from stillhouse.train.schedule import Cosine
from tests.models.tiny import conversation, tiny_model
from tests.train.small import conversations, history, options, recipe, train

QUESTION = [conversation(3)[:1]]


@pytest.mark.usefixtures("in_process")
def test_the_result_loads_with_transformers_alone(tmp_path: Path, base: Path) -> None:
    model = train(tmp_path, recipe(base))
    loaded: Any = AutoModelForCausalLM.from_pretrained(model.path)
    assert loaded.config._attn_implementation == "sdpa"
    tokenizer: Any = AutoTokenizer.from_pretrained(model.path)
    assert tokenizer.chat_template == AutoTokenizer.from_pretrained(base).chat_template
    ids = tokenizer.apply_chat_template(QUESTION[0], add_generation_prompt=True, return_tensors="pt", return_dict=False)
    with torch.no_grad():
        found = loaded.generate(ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :]
    (reply,) = Generator(model.path, device="cpu").replies(QUESTION, max_new_tokens=12)
    assert isinstance(reply, GenerationReply)
    assert reply.text == tokenizer.decode(found, skip_special_tokens=True)


@pytest.mark.usefixtures("in_process")
def test_the_result_says_how_it_was_trained(tmp_path: Path, base: Path) -> None:
    step = recipe(base)
    assert isinstance(step.tokens, Step)
    with Session(tmp_path, options=options(), track=False, progress=False) as session:
        model, tokens = session.run(step), session.run(step.tokens)
    assert isinstance(tokens, Tokens)
    training = json.loads((model.path / "training.json").read_text())
    assert (training["steps"], training["threads"], training["device"]) == (12, 1, "cpu")
    assert training["tokens"] == history(model)[-2]["tokens"]
    assert {"torch", "transformers", "stillhouse"} <= set(training["versions"])
    # The order in which rows were seen follows from what is written there.
    loader = get_loader(tokens, seq_len=64, batch_size=3, state=training["loader"])
    assert loader.step == 12
    account = loader.account()["data"]
    assert account.tokens == training["tokens"]
    seen = {row.row_id for update in range(12) for row in loader.rows_at_step(update)}
    assert seen == set(TokenStore(tokens.data).row_ids(range(40)))


@pytest.mark.usefixtures("in_process")
def test_training_twice_gives_the_same_bytes(tmp_path: Path, dropping_base: Path) -> None:
    first, second = (train(tmp_path / name, recipe(dropping_base)) for name in ("first", "second"))
    assert first.digest == second.digest
    assert train(tmp_path / "third", recipe(dropping_base, seed=1)).digest != first.digest


@pytest.mark.usefixtures("in_process")
def test_the_result_has_the_dtype_of_its_base(tmp_path: Path, tokenizer_folder: Path) -> None:
    base = tiny_model(tmp_path / "base", tokenizer_folder, dtype=torch.bfloat16)
    model = train(tmp_path / "store", recipe(base))
    assert dtype_of(model.path) == torch.bfloat16
    before, after = load_file(base / "model.safetensors"), load_file(model.path / "model.safetensors")
    assert set(before) == set(after)
    assert not torch.equal(before["model.norm.weight"], after["model.norm.weight"])


@pytest.mark.usefixtures("in_process")
def test_a_model_from_scratch_learns_with_a_tokenizer_of_its_own(tmp_path: Path) -> None:
    rows = conversations(0, 60)
    tokenizer = TrainTokenizer(rows=rows, vocab_size=330)
    step = Finetune(
        base=FromScratch(tokenizer=tokenizer, hidden=32, layers=1, heads=2, max_length=64),
        rows=rows,
        seq_len=64,
        epochs=40,
    )
    assert step.peak_rate == 2e-3
    model = train(tmp_path, step)
    losses = [line["loss"] for line in history(model)]
    assert losses[-1] < 0.5 * losses[0]
    assert len(AutoTokenizer.from_pretrained(model.path)) == load_model(model.path).config.vocab_size  # type: ignore[union-attr]


@pytest.mark.usefixtures("in_process")
def test_an_adapter_leaves_its_base_as_it_was_and_merges(tmp_path: Path, base: Path) -> None:
    step = recipe(base, adapter=Lora(rank=2))
    with Session(tmp_path, options=options(), track=False, progress=False) as session:
        tuned, merged = session.run(step), session.run(Merge(model=step))
    assert (tuned.path / BASE / "model.safetensors").read_bytes() == (base / "model.safetensors").read_bytes()
    assert sum(tensor.numel() for tensor in load_file(tuned.path / "adapter_model.safetensors").values()) < 10_000
    found = [Generator(model.path, device="cpu").replies(QUESTION, max_new_tokens=10) for model in (tuned, merged)]
    assert found[0] == found[1]
    assert merged.record["facts"]["merge_error"] < 1e-5


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT's, where it is asked alone
@pytest.mark.usefixtures("in_process")
def test_peft_loads_an_adapter_beside_its_base_wherever_the_folder_lies(tmp_path: Path, base: Path) -> None:
    from peft import AutoPeftModelForCausalLM, PeftModel
    from transformers import AutoModelForCausalLM

    folder = tmp_path / "elsewhere"
    shutil.copytree(train(tmp_path / "store", recipe(base, adapter=Lora(rank=2))).path, folder)
    adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder / "base"), folder).eval()
    ids = torch.arange(1, 30)[None]
    with torch.no_grad():
        assert torch.equal(adapted(ids).logits, load_model(folder)(ids).logits)
    assert adapter_base(folder) == ("./base", None)
    with pytest.raises(OSError, match="base"):  # at once: it is a path, so no hub is asked
        AutoPeftModelForCausalLM.from_pretrained(str(folder))


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
@pytest.mark.usefixtures("in_process")
def test_an_adapter_names_the_commit_of_its_base_and_peft_loads_it_by_that(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft import AutoPeftModelForCausalLM

    commit = "c" * 40
    shutil.copytree(base, tmp_path / "hub" / "models--someone--small" / "snapshots" / commit)
    (tmp_path / "hub" / "models--someone--small" / "refs").mkdir()
    (tmp_path / "hub" / "models--someone--small" / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    first = Finetune(base="someone/small", rows=conversations(0, 40), seq_len=64, steps=2, adapter=Lora(rank=2))
    further = first.replace(base=first, adapter=None, seed=1)
    with Session(tmp_path / "store", options=options(), track=False, progress=False) as session:
        folders = [session.run(step).path for step in (first, further)]
    for folder in folders:
        assert adapter_base(folder) == ("someone/small", commit)
        assert AutoPeftModelForCausalLM.from_pretrained(str(folder), cache_dir=str(tmp_path / "hub")) is not None


def adapter_base(folder: Path) -> tuple[str, str | None]:
    config = json.loads((folder / "adapter_config.json").read_text())
    return config["base_model_name_or_path"], config["revision"]


@pytest.mark.usefixtures("in_process")
def test_an_adapter_can_be_trained_further(tmp_path: Path, base: Path) -> None:
    first = recipe(base, adapter=Lora(rank=2))
    further = first.replace(base=first, adapter=None, seed=1)
    with Session(tmp_path, options=options(), track=False, progress=False) as session:
        before, after = session.run(first), session.run(further)
    assert history(after)[0]["eval_loss"] == pytest.approx(before.record["facts"]["eval_loss"], rel=1e-6)
    assert history(after)[-1]["eval_loss"] < history(before)[-1]["eval_loss"]
    with pytest.raises(RecipeError, match="adapter already"):
        train(tmp_path, first.replace(base=first))


@pytest.mark.usefixtures("in_process")
def test_kept_checkpoints_hold_moments_by_the_names_of_parameters(tmp_path: Path, base: Path) -> None:
    model = train(tmp_path, recipe(base, checkpoints=3, keep_best=False))
    folders = sorted((model.path / "checkpoints").iterdir())
    assert [folder.name for folder in folders] == ["step-00000004", "step-00000008", "step-00000012"]
    last = read_checkpoint(folders[-1])
    assert isinstance(last, Checkpoint)
    weights = load_file(model.path / "model.safetensors")
    assert set(last.parameters) == set(weights)
    assert all(torch.equal(last.parameters[name], weights[name]) for name in weights)
    assert {name.rpartition("/")[2] for name in last.optimiser} == {"step", "exp_avg", "exp_avg_sq"}
    assert {name.rpartition("/")[0] for name in last.optimiser} == set(weights)
    assert last.state["learning_rate"] == [line for line in history(model) if "loss" in line][-1]["learning_rate"]


@pytest.mark.usefixtures("in_process")
def test_a_template_that_the_tokens_were_made_with_travels_with_the_model(tmp_path: Path, base: Path) -> None:
    template = (
        "{% for m in messages %}{% if m['role'] == 'assistant' %}{% generation %}A: {{ m['content'] }}{{ eos_token }}"
        "{% endgeneration %}{% else %}Q: {{ m['content'] }} {% endif %}{% endfor %}"
    )
    start = Pretrained(name=str(base))
    tokens = Tokenize(rows=conversations(0, 20), tokenizer=start, template=template)
    model = train(tmp_path, Finetune(base=start, tokens=tokens, steps=2, batch_size=2, seq_len=64))
    tokenizer: Any = AutoTokenizer.from_pretrained(model.path)
    assert tokenizer.apply_chat_template(QUESTION[0], tokenize=False).startswith("Q: ")
    (reply,) = Generator(model.path, device="cpu").replies(QUESTION, max_new_tokens=2)
    assert isinstance(reply, GenerationReply)


@pytest.mark.usefixtures("in_process")
def test_tokens_of_another_tokenizer_are_refused(tmp_path: Path, base: Path) -> None:
    start = Pretrained(name=str(base))
    other = TrainTokenizer(rows=conversations(100, 150), vocab_size=320)
    tokens = Tokenize(rows=conversations(0, 20), tokenizer=other)
    with pytest.raises(RecipeError, match="another tokenizer"):
        train(tmp_path, Finetune(base=start, tokens=tokens, steps=1))


@pytest.mark.usefixtures("in_process")
def test_documents_longer_than_the_model_are_refused(tmp_path: Path, tokenizer_folder: Path) -> None:
    short = tiny_model(tmp_path / "short", tokenizer_folder, max_position_embeddings=16)
    with pytest.raises(RecipeError, match="the model takes 16") as caught:
        train(tmp_path / "store", recipe(short))
    assert "`seq_len` of at most 16" in str(caught.value)
    train(tmp_path / "store", recipe(short, seq_len=16, packing=Packing(too_long="split"), steps=1))


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("method", ["best_fit", "windows", "concat", "one"])
def test_every_way_of_packing_trains(tmp_path: Path, base: Path, method: Method) -> None:
    model = train(tmp_path, recipe(base, packing=Packing(method), steps=10))
    losses = [line["loss"] for line in history(model) if "loss" in line]
    assert losses[-1] < losses[0]


@pytest.mark.usefixtures("in_process")
def test_a_recurrent_model_trains_with_packed_rows(tmp_path: Path, tokenizer_folder: Path) -> None:
    """Its layers would carry one document into the next, so each gets a row of its own."""
    from transformers import MambaConfig

    from stillhouse.models.loading import save_model

    config = MambaConfig(
        vocab_size=320, hidden_size=16, num_hidden_layers=1, state_size=4,
        eos_token_id=1, pad_token_id=0, bos_token_id=None,
    )  # fmt: skip
    base = tmp_path / "base"
    save_model(AutoModelForCausalLM.from_config(config), base, dtype=torch.float32, tokenizer_from=tokenizer_folder)
    model = train(tmp_path / "store", recipe(base, learning_rate=1e-2))
    assert model.record["facts"]["layout"] == "apart"
    losses = [line["loss"] for line in history(model) if "loss" in line]
    assert losses[-1] < losses[0]


def test_rows_are_tokenised_for_the_base(base: Path) -> None:
    start, rows = Pretrained(name=str(base)), conversations(0, 5)
    short = Finetune(base=str(base), rows=rows, held_out=conversations(5, 8))
    tokens = Tokenize(rows=rows, tokenizer=start)
    held_out = Tokenize(rows=conversations(5, 8), tokenizer=start)
    long = Finetune(base=start, tokens=tokens, held_out=held_out)
    assert short.recipe_key == long.recipe_key
    assert from_table(to_table(short)).recipe_key == long.recipe_key


def test_the_learning_rate_suits_what_is_trained(base: Path) -> None:
    assert recipe(base, learning_rate=None).peak_rate == 2e-5
    assert recipe(base, learning_rate=None, adapter=Lora()).peak_rate == 2e-4
    assert recipe(base, learning_rate=0.5, adapter=Lora()).peak_rate == 0.5
    adapted = recipe(base, learning_rate=None, adapter=Lora())
    further = adapted.replace(base=adapted, adapter=None)
    assert further.peak_rate == further.replace(base=further).peak_rate == 2e-4
    assert further.replace(base=Merge(model=further)).peak_rate == 2e-5


def test_an_adapter_in_a_folder_is_trained_further_at_the_rate_of_adapters(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    assert Finetune(base=str(tmp_path), rows=conversations(0, 5)).peak_rate == 2e-4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 2.0}, "`epochs` or `steps`, not both"),
        ({"held_out": None, "patience": 2}, "`patience` needs `held_out`"),
        (
            {"tokens": Tokenize(rows=conversations(0, 1), tokenizer=Pretrained(name="x"))},
            "`rows` or `tokens`, not both",
        ),
        ({"learnig_rate": 1.0}, "Did you mean `learning_rate`"),
        ({"optimiser": "adam"}, "optimiser"),
    ],
)
def test_what_cannot_be_is_refused_with_the_field(base: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe(base, **changes)


def test_another_part_makes_another_result(base: Path) -> None:
    keys = {
        recipe(base, **changes).recipe_key
        for changes in (
            {}, {"optimiser": AdamW(weight_decay=0.1)}, {"schedule": Cosine(warmup=0.2)},
            {"adapter": Lora()}, {"seed": 1},
        )
    }  # fmt: skip
    assert len(keys) == 5


@pytest.mark.usefixtures("in_process")
def test_a_plan_tells_time_and_memory_before_anything_is_trained(tmp_path: Path, base: Path) -> None:
    step = recipe(base, steps=None, epochs=2.0)
    assert isinstance(step.tokens, Step)
    with Session(tmp_path, options=options(), track=False, progress=False) as session:
        before = step.expect(None, session)
        session.run(step.tokens)
        known, longer = step.expect(None, session), step.replace(epochs=4.0).expect(None, session)
        wider = step.replace(seq_len=1024).expect(None, session)
    assert before.seconds is None
    assert known.seconds is not None
    assert longer.seconds == pytest.approx(2 * known.seconds)
    tokens = session.run(step.tokens).record["facts"]["tokens"]
    weights = sum(tensor.numel() for tensor in load_file(base / "model.safetensors").values())
    assert known.seconds == pytest.approx(6 * weights * 2 * tokens / 60e9)
    assert known.memory_bytes is not None
    assert wider.memory_bytes is not None
    assert 400 << 20 < known.memory_bytes < wider.memory_bytes < 500 << 20
    shutil.rmtree(session.run(step.tokens).data / "segments")
    assert step.expect(None, session).seconds is None  # that they are damaged is told where they are read


def test_a_plan_of_a_model_from_scratch_knows_its_size(tmp_path: Path) -> None:
    rows = conversations(0, 5)
    fresh = FromScratch(tokenizer=TrainTokenizer(rows=rows, vocab_size=1000), hidden=64, heads=2, layers=3)
    with Session(tmp_path, options=options(), track=False, progress=False) as session:
        expected = Finetune(base=fresh, rows=rows, steps=10, batch_size=1, seq_len=100).expect(None, session)
    attention_and_forward = 4 * 64 * 64 + 3 * 64 * 176
    work = 6 * (1000 * 64 + 3 * attention_and_forward) * 10 * 100
    assert expected.seconds is not None
    assert expected.seconds * 60e9 == pytest.approx(work)  # of one thread
