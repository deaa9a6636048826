"""What recipe files and the command line can name from `train`."""

CATALOGUE: dict[str, tuple[str, str]] = {
    "train.finetune": ("stillhouse.train.finetune:Finetune", "Train a model on token files."),
    "train.sft": ("stillhouse.train.objectives.sft:Sft", "Learn to write the weighted tokens."),
    "train.cross_entropy": ("stillhouse.train.losses.cross_entropy:CrossEntropy", "Negative log-likelihood."),
    "train.adamw": ("stillhouse.train.optimiser:AdamW", "Adam with decoupled weight decay."),
    "train.muon": ("stillhouse.train.muon:Muon", "Orthogonalised momentum for matrices, AdamW for the rest."),
    "train.cosine": ("stillhouse.train.schedule:Cosine", "Warm up, then fall along a cosine."),
    "train.constant": ("stillhouse.train.schedule:Constant", "Warm up, then stay."),
}
