"""What recipe files and the command line can name from `models`."""

CATALOGUE: dict[str, tuple[str, str]] = {
    "models.pretrained": ("stillhouse.models.pretrained:Pretrained", "Take a model from the hub or a folder."),
    "models.from_scratch": ("stillhouse.models.scratch:FromScratch", "Make a small model with fresh weights."),
    "models.merge": ("stillhouse.models.merge:Merge", "Work an adapter into its base."),
    "models.lora": ("stillhouse.models.adapter:Lora", "Train low-rank adapters beside frozen weights."),
}
