"""The README.md of a saved model: what it is, how it decodes, how it is used."""

from prefixcap.config import DecodeOptions, EncoderConfig, LanguageModelConfig, ModelConfig

CLIPCAP = (
    "A ClipCap model (Mokady et al., arXiv 2111.09734): a mapper turns an image embedding into a "
    "prefix, a language model continues it with a caption."
)
SHOW_TELL = (
    "An LSTM captioner (Show and Tell, Vinyals et al., arXiv 1411.4555): the image is the first "
    "input, the words of the caption follow."
)
SHOW_ATTEND_TELL = (
    "An LSTM captioner with soft attention (Show, Attend and Tell, Xu et al., arXiv 1502.03044): "
    "it looks at the image's positions anew for each word."
)


def model_card(
    config: ModelConfig, *, name: str = "this model", about: str = "", licence: str = ""
) -> str:
    """Model card in Markdown, with the metadata block that hubs read.

    Args:
        config: the model's settings.
        name: what users call it: a folder, a hub name or a built-in name.
        about: paragraphs of the author's: training data, scores, limits.
        licence: identifier of its licence; left out where empty.
    """
    head = ["---", "library_name: prefixcap", "pipeline_tag: image-to-text"]
    head += [f"license: {licence}"] if licence else []
    head += ["tags:", "- image-captioning", f"- {'lstm' if config.lstm else 'clipcap'}", "---"]
    parts = [
        f"# {name}",
        CLIPCAP
        if config.lstm is None
        else SHOW_ATTEND_TELL
        if config.lstm.attention
        else SHOW_TELL,
        about.strip() or "No training data or scores were recorded with it.",
        "## Parts",
        _parts(config),
        "## Decoding it was tuned with",
        decoding_lines(config.decoding),
        "## Use",
        f"```\nprefixcap caption --model {name} photo.jpg\n```",
    ]
    return "\n".join(head) + "\n\n" + "\n\n".join(part for part in parts if part) + "\n"


def _parts(config: ModelConfig) -> str:
    """One line each on the encoder and on what writes the captions."""
    end = "its end token ends a caption" if config.end_token else "no end token was trained"
    encoder = f"- Encoder: {_encoder(config.encoder, config.embedding_dim)}"
    if config.lstm is not None:
        layers = f"{config.lstm.layers} layer{'s' if config.lstm.layers > 1 else ''}"
        sizes = f"{layers} of {config.lstm.hidden_size}, words of {config.lstm.embedding_size}"
        return f"{encoder}\n- LSTM: {sizes}, words that occur {config.lstm.min_count} times; {end}"
    mapper = config.mapper
    size = f"{mapper.layers} layers, {mapper.heads} heads, " if mapper.kind == "transformer" else ""
    return "\n".join(
        [
            encoder,
            f"- Mapper: {mapper.kind}, {size}prefix of {mapper.prefix_length}",
            f"- Language model: {_language_model(config.language_model)}; {end}",
        ]
    )


def _encoder(encoder: EncoderConfig, dim: int) -> str:
    """The encoder and what is taken from it."""
    origin = "stored with the model" if encoder.stored else f"`{encoder.name}`"
    norm = "divided by their L2 norm" if encoder.normalize else "not normalised"
    both = ", mean over the photo and its mirror image" if encoder.mirrored else ""
    return f"{encoder.kind}, {origin}, {encoder.output} embeddings of {dim}, {norm}{both}"


def _language_model(lm: LanguageModelConfig) -> str:
    """The language model, and whether it was trained."""
    sizes = f"GPT-2 architecture, {lm.layers} layers of {lm.width}"
    revision = f" at revision {lm.revision}" if lm.revision else ""
    origin = f"`{lm.name}`{revision}" if lm.name else sizes
    if lm.lora_rank:
        return f"{origin}, trained by adapters of rank {lm.lora_rank} (LoRA), which are added in"
    return f"{origin}, {'frozen' if lm.frozen else 'trained'}"


def decoding_lines(options: DecodeOptions) -> str:
    """The settings that differ from the defaults, after the method."""
    changed = options.model_dump(exclude_defaults=True)
    rows = [f"- method: {options.resolved_method}"]
    if options.resolved_method == "beam":
        rows.append(f"- order: {options.order}")
    rows += [
        f"- {key}: {value}" for key, value in changed.items() if key not in ("method", "order")
    ]
    return "\n".join(rows)
