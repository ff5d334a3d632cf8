"""Language model: chat messages in, text pieces out; one interface, two runtimes, chosen by the card's entry.

`LlamaCppModel` runs the GGUF file in llama.cpp (xllamacpp): text only, fastest, obeys a GBNF grammar.
`TransformersModel` runs the same weights in torch: takes visual tokens, has no grammar.

Pieces go to a function, not out of a generator: llama.cpp calls back while it decodes, and turning that
inside out would take a thread. The function is also how a person stops the model: what it raises ends the
decoding.
"""

import json
import os
import secrets
import sys
import tempfile
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

Message = dict[str, str]  # {"role": "system" | "user" | "assistant", "content": text}
OnPiece = Callable[[str], None]

VISUAL_MARK = "<|visual|>"  # stands in a message where the visual tokens go
ENOUGH = 0.95  # top-p of sampled text, both runtimes


class LanguageModel(Protocol):
    """Writes the assistant's next message of a chat."""

    dtype: str
    device: str
    takes_grammar: bool
    takes_visual: bool

    def write(
        self,
        messages: list[Message],
        *,
        on_piece: OnPiece,
        max_tokens: int = 128,
        temperature: float = 0.0,
        seed: int = 0,
        **more: Any,
    ) -> str:
        """The message, also streamed piece by piece; the pieces joined are the message.

        Args:
            messages: the chat so far. Whatever prefix it shares with the chat before is not computed again.
            on_piece: called with every piece, and with "" while the prompt is read; raises to stop.
            max_tokens: where to stop at the latest.
            temperature: 0 is greedy.
            seed: the same seed, messages and temperature give the same text.
            more: `grammar` (GBNF text) where takes_grammar, `visual` ((M, dim) tensor) where takes_visual.
        """

    def count_tokens(self, messages: list[Message]) -> int:
        """Tokens of this chat as the model reads it; leaves it read, so that what follows starts at once."""


class LlamaCppModel:
    """GGUF weights in llama.cpp.

    Calls are in process. The library insists on a server of its own too: it gets a Unix socket, in a private
    folder that is removed at once, so no port is open. Windows has no such socket there: its loopback port
    refuses everybody, by a key that is thrown away.

    Raises:
        ValueError: the grammar can't be parsed, or the prompt is longer than the context.
    """

    dtype = "gguf"
    device = "cpu"
    takes_grammar = True
    takes_visual = False

    def __init__(self, card: Any, weights_path: Path):
        import xllamacpp

        config = {"context": 4096, "batch": 32, "threads": 0, **card.config}
        params = xllamacpp.CommonParams()
        params.model.path = str(weights_path)
        params.n_ctx = config["context"]
        params.n_batch = params.n_ubatch = config["batch"]
        params.n_parallel = params.n_threads_http = 1
        self.threads = config["threads"] or _spare_threads()
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = self.threads
        params.verbosity = 0
        params.cache_ram_mib = 0  # the one slot keeps its own prefix
        params.ui = params.endpoint_slots = False
        params.offline = True
        params.api_keys = [secrets.token_hex(32)]
        with tempfile.TemporaryDirectory(prefix="ct3d-") as folder:
            if sys.platform != "win32":
                params.hostnames = [f"{folder}/s.sock"]
            self.server = xllamacpp.Server(params)

    def write(
        self,
        messages: list[Message],
        *,
        on_piece: OnPiece,
        max_tokens: int = 128,
        temperature: float = 0.0,
        seed: int = 0,
        grammar: str = "",
    ) -> str:
        """See LanguageModel; a grammar is GBNF text with the rule `root`."""
        request = {"messages": messages, "max_tokens": max_tokens, "cache_prompt": True}
        request |= {"temperature": temperature, "top_p": ENOUGH, "seed": seed}
        request |= {"stream": True, "return_progress": True}
        if grammar:
            request["grammar"] = grammar
        reply = _Reply(on_piece)
        self.server.handle_chat_completions(request, reply.take)
        if reply.problem:
            raise reply.problem
        return "".join(reply.pieces)

    def count_tokens(self, messages: list[Message]) -> int:
        """See LanguageModel."""
        request = {"messages": messages, "max_tokens": 1, "temperature": 0, "cache_prompt": True}
        return self.server.handle_chat_completions(request)["usage"]["prompt_tokens"]


class _Reply:
    """What llama.cpp calls back with. It swallows what we raise, so write raises it afterwards."""

    def __init__(self, on_piece: OnPiece):
        self.on_piece = on_piece
        self.pieces: list[str] = []
        self.problem: BaseException | None = None

    def take(self, event: Any) -> bool:
        """True stops the decoding."""
        try:
            for part in event if isinstance(event, list) else [event]:
                self._take_part(part)
        except BaseException as problem:  # noqa: BLE001  raised again by write, on the caller's side of the library
            self.problem = problem
        return self.problem is not None

    def _take_part(self, part: dict[str, Any]) -> None:
        if "error" in part:
            raise ValueError(f"llama.cpp: {part['error']['message']}")
        choices = part.get("choices") or [{}]
        piece = choices[0].get("delta", {}).get("content") or ""
        if piece:
            self.pieces.append(piece)
        self.on_piece(piece)


class TransformersModel:
    """The same GGUF weights in torch: bfloat16 where the processor or GPU has it, else float32.

    The GGUF file is unpacked once to safetensors in a folder beside it, named by the file's checksum.
    """

    takes_grammar = False
    takes_visual = True

    def __init__(self, card: Any, weights_path: Path):
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache
        from transformers.utils import logging

        logging.disable_progress_bar()
        config = {"batch": 256, "threads": 0, **card.config}
        self.batch = config["batch"]
        self.threads = config["threads"] or _spare_threads()
        self.torch = torch
        self.new_cache = DynamicCache
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = torch.bfloat16 if _has_bfloat16(torch) else torch.float32
        self.dtype = str(dtype).removeprefix("torch.")
        folder = unpacked(weights_path, card.weights.sha256)
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True)
        self.model = model.to(self.device).eval()
        self.read: list[int] = []  # tokens whose keys and values are in the cache
        self.cache = DynamicCache()

    def write(
        self,
        messages: list[Message],
        *,
        on_piece: OnPiece,
        max_tokens: int = 128,
        temperature: float = 0.0,
        seed: int = 0,
        visual: Any = None,
    ) -> str:
        """See LanguageModel; `visual` is a (M, dim) tensor that stands at VISUAL_MARK."""
        draw = self._sampler(temperature, seed)
        with self._inference():
            logits = self._read(messages, on_piece) if visual is None else self._see(messages, visual)
            ids: list[int] = []
            text = ""
            for _ in range(max_tokens):
                token = draw(logits)
                if token == self.tokenizer.eos_token_id:
                    break
                ids.append(token)
                whole = self.tokenizer.decode(ids, skip_special_tokens=True)
                if not whole.endswith("\ufffd"):  # half of a character
                    piece, text = whole[len(text) :], whole
                    on_piece(piece)
                logits = self._forward([token])
        return text

    def count_tokens(self, messages: list[Message]) -> int:
        """See LanguageModel."""
        with self._inference():
            self._read(messages, lambda _: None)
        return len(self.read)

    @contextmanager
    def _inference(self):
        """No gradients, and torch on the spare threads only; its own number is put back afterwards."""
        before = self.torch.get_num_threads()
        self.torch.set_num_threads(self.threads)
        try:
            with self.torch.inference_mode():
                yield
        finally:
            self.torch.set_num_threads(before)

    def _read(self, messages, on_piece):
        """Logits (vocabulary,) after the chat, whose common prefix with the last one stays in the cache."""
        ids = self.tokenizer(self._chat(messages), add_special_tokens=False).input_ids
        same = len(os.path.commonprefix([ids[:-1], self.read]))  # the last one is read for its logits
        if same < len(self.read):
            self.cache.crop(same - len(self.read))
            self.read = self.read[:same]
        for start in range(same, len(ids), self.batch):
            on_piece("")
            logits = self._forward(ids[start : start + self.batch])
        return logits

    def _see(self, messages, visual):
        """Logits after a chat that holds visual tokens; nothing of it is reused."""
        before, mark, after = self._chat(messages).partition(VISUAL_MARK)
        if not mark:
            raise ValueError(f"Visual tokens need {VISUAL_MARK} in a message. Put it where they belong.")
        embed = self.model.get_input_embeddings()
        ids = [self.tokenizer(text, add_special_tokens=False).input_ids for text in (before, after)]
        start, end = (embed(self.torch.tensor([each], device=self.device)) for each in ids)
        embeds = self.torch.cat([start, visual[None].to(start), end], dim=1)  # (1, T, dim)
        self.cache, self.read = self.new_cache(), []
        output = self.model(inputs_embeds=embeds, past_key_values=self.cache, logits_to_keep=1)
        self.read = [-1] * embeds.shape[1]  # no token id: never taken for a common prefix
        return output.logits[0, -1].float()

    def _forward(self, ids):
        tokens = self.torch.tensor([ids], device=self.device)
        output = self.model(tokens, past_key_values=self.cache, logits_to_keep=1)
        self.read += ids
        return output.logits[0, -1].float()

    def _chat(self, messages):
        return self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)

    def _sampler(self, temperature, seed):
        if temperature <= 0:
            return lambda logits: int(logits.argmax())
        generator = self.torch.Generator(self.device).manual_seed(seed)

        def draw(logits):
            chances, order = self.torch.softmax(logits / temperature, -1).sort(descending=True)
            chances[chances.cumsum(-1) - chances > ENOUGH] = 0
            return int(order[self.torch.multinomial(chances, 1, generator=generator)])

        return draw


def unpacked(weights_path: Path, sha256: str) -> Path:
    """Folder with the GGUF file's weights as bfloat16 safetensors and its tokenizer; made at first use."""
    folder = weights_path.with_name(f"{weights_path.stem}-{sha256[:12]}-bf16")
    if not (folder / "source.json").is_file():
        _unpack(weights_path, sha256, folder)
    return folder


def _unpack(weights_path, sha256, folder):
    import shutil
    import tempfile

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    where = {"pretrained_model_name_or_path": weights_path.parent, "gguf_file": weights_path.name}
    dense = {"dtype": torch.bfloat16, "quantization_config": GgufConfig(dequantize=True)}
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpacking-") as name:
        made = Path(name) / "made"
        AutoModelForCausalLM.from_pretrained(**where, **dense).save_pretrained(made)
        AutoTokenizer.from_pretrained(**where).save_pretrained(made)
        source = {"file": weights_path.name, "sha256": sha256}
        (made / "source.json").write_text(json.dumps(source), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)


def _has_bfloat16(torch):
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def _spare_threads():
    """All cores but one, at most four: both runtimes' threads spin, and crawl where they share a core."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(4, cores - 1))
