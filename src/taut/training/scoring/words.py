"""What was said, as token ids: exact where the log has ids, by the tokenizer where it has text.

Prompt and response are tokenised apart, because that is how they met: the policy was handed the
prompt's tokens and sampled the response's behind them. Tokens over the boundary, which joint
tokenising can make, are tokens that nobody sampled. What no tokenizer can give back are the tokens
that were sampled: text has many spellings, and tokenising gives one. Rows where that shows (the
tokens do not spell the text, or the log counted other tokens) are counted.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pyarrow as pa

from taut.errors import LogError
from taut.logs.reduce import Chunk, Problems
from taut.logs.schema import WORDS

EndToken = Literal["auto", "always", "never"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the models take.

    Attributes:
        vocabulary: Token ids lie below it.
        context: Longest prompt and response together, tokens; None where no model says.
    """

    vocabulary: int
    context: int | None


@dataclass(slots=True)
class Counts:
    """What was met while reading, for the notices."""

    text: int = 0  # responses that were tokenised here
    recounted: int = 0  # of these, the log counted other tokens
    respelled: int = 0  # of the rest, tokens spell another text
    ended: int = 0  # responses with an end token at their end
    added: int = 0  # of these, end tokens that were added here
    open: int = 0  # responses in ids that are not truncated and yet have no end token


@dataclass(slots=True, kw_only=True)
class Words:
    """Turns the words of a chunk into token ids, and notes what is wrong with its rows.

    Attributes:
        tokenizer: For text and chat messages; None where the log must have ids.
        ends: Ids that end a response.
        end: The one that is added to a finished text, None where the tokenizer has none.
        end_token: Whether the end token counts; "auto": iff the response is not truncated.
        limits: What the models take.
        retokenise: Responses in text are scored even where their tokens are surely not those
            that were sampled.
        counts: What was met so far.
    """

    tokenizer: object | None
    ends: frozenset[int]
    end: int | None
    end_token: EndToken
    limits: Limits
    retokenise: bool = False
    counts: Counts = field(default_factory=Counts)
    _other: str = ""  # the first response with other tokens

    def __call__(self, chunk: Chunk) -> dict[str, np.ndarray | pa.Array]:
        """Return `prompt_ids`, `response_ids` and `n_tokens` of a chunk, and its words as text."""
        words = {name: chunk.columns[name].data for name in WORDS if name in chunk.columns}
        prompt = "prompt_ids" if "prompt_ids" in words else "prompt"
        response = "response_ids" if "response_ids" in words else "response"
        for name, one in ((prompt, "prompt"), (response, "response")):
            if name not in words:
                raise LogError(
                    f"{chunk.file}: expected '{one}_ids' or '{one}' to score, found neither; name "
                    f"the column that holds it: --map {one}_ids=COLUMN or --map {one}=COLUMN."
                )
        rows = len(chunk.numbers)
        prompts = (
            self._given(prompt, words[prompt], chunk)
            if prompt == "prompt_ids"
            else self._prompts(words[prompt], chunk)
        )
        responses = (
            self._given(response, words[response], chunk)
            if response == "response_ids"
            else self._responses(words[response], chunk)
        )
        self._ends(responses, response, chunk)
        for row in range(rows):
            self._check(row, (prompt, prompts[row]), (response, responses[row]), chunk.problems)
        if response == "response":
            self._compare(words[response], prompts, responses, chunk)
        out = {
            "prompt_ids": pa.array(prompts, type=pa.list_(pa.int32())),
            "response_ids": pa.array(responses, type=pa.list_(pa.int32())),
            "n_tokens": np.array([len(ids) for ids in responses], dtype=np.int64),
        }
        for name, text in (("prompt", _as_text), ("response", _response_text)):
            if name in words:
                out[name] = pa.array([text(value) for value in words[name]], type=pa.string())
        return out

    def _given(self, name: str, values: list, chunk: Chunk) -> list[list[int]]:
        """Check lists of ids; a bad one becomes an empty list."""
        counted = chunk.columns.get("n_tokens")
        out = []
        for row, value in enumerate(values):
            problem = None if value is None else _id_problem(value, self.limits.vocabulary)
            # Tokens that the log counted were sampled, whatever they are.
            known = isinstance(value, list) and counted is not None
            sampled = known and counted.data[row] == len(value)
            if problem is None and value and name == "response_ids" and not sampled:
                problem = self._padding(value)
            if problem:
                chunk.problems.add(row, name, problem)
            out.append([] if problem or value is None else list(value))
        return out

    def _padding(self, ids: list[int]) -> str | None:
        pad = getattr(self.tokenizer, "pad_token_id", None)
        size = 0
        while size < len(ids) and (ids[-1 - size] in self.ends or ids[-1 - size] == pad):
            size += 1
        if size > 1 or (size == 1 and ids[-1] == pad and pad not in self.ends):
            return (
                f"ends in {size} tokens of padding or end ({ids[-1]}); expected the sampled tokens "
                "with one end token at most: cut them where the log is made"
            )
        return None

    def _prompts(self, values: list, chunk: Chunk) -> list[list[int]]:
        """Tokenise prompts, each text once: rollouts of a prompt repeat it."""
        tokenizer = self._need_tokenizer(chunk, "prompt")
        known: dict[str, list[int]] = {}
        out = []
        for row, value in enumerate(values):
            problem = _prompt_problem(value)
            if value is None or problem:
                if problem:
                    chunk.problems.add(row, "prompt", problem)
                out.append([])
                continue
            key = _as_text(value)
            if key not in known:
                known[key] = (
                    self._chat(tokenizer, value, chunk.file)
                    if isinstance(value, list)
                    else _prompt_ids(tokenizer, str(value))
                )
            out.append(known[key])
        return out

    def _chat(self, tokenizer, messages: list[dict], file: str) -> list[int]:
        if not tokenizer.chat_template:
            raise LogError(
                f"{file}: 'prompt' holds chat messages, and the tokenizer has no chat template; "
                "expected text or `prompt_ids`, or a tokenizer with one: --tokenizer FOLDER."
            )
        # Messages that end in the assistant's are a beginning that the policy went on with.
        going_on = messages[-1]["role"] == "assistant"
        messages = [{k: v for k, v in m.items() if v is not None} for m in messages]
        try:
            text = tokenizer.apply_chat_template(
                messages,
                tokenize=False,
                add_generation_prompt=not going_on,
                continue_final_message=going_on,
            )
        except Exception as problem:  # whatever the template raises
            raise LogError(
                f"{file}: the tokenizer's chat template refuses a prompt: "
                f"{' '.join(str(problem).split())[:160]}; log `prompt_ids`."
            ) from None
        return _encode(tokenizer, [text])[0]  # templates write their own special tokens

    def _responses(self, values: list, chunk: Chunk) -> list[list[int]]:
        tokenizer = self._need_tokenizer(chunk, "response")
        texts = []
        for row, value in enumerate(values):
            text = _response_text(value)
            if text is None and value is not None:
                chunk.problems.add(
                    row,
                    "response",
                    "is neither text nor one assistant message; expected that, or `response_ids`",
                )
            texts.append(text or "")
        self.counts.text += len(texts)
        return _encode(tokenizer, texts) if texts else []

    def _need_tokenizer(self, chunk: Chunk, name: str):
        if self.tokenizer is None:
            raise LogError(
                f"{chunk.file}: '{name}' is text, and there is no tokenizer with the policy; "
                f"expected '{name}_ids', or --tokenizer FOLDER."
            )
        return self.tokenizer

    def _ends(self, responses: list[list[int]], name: str, chunk: Chunk) -> None:
        """Add or drop end tokens, in place."""
        truncated = chunk.columns.get("truncated")
        if truncated is not None and truncated.missing is not None and truncated.missing.all():
            truncated = None
        if self.end_token == "auto" and name == "response" and truncated is None:
            raise LogError(
                f"{chunk.file}: expected 'truncated', which says whether the end token was "
                "sampled, found no such column; add or map it, or say --end-token always or never."
            )
        cut = np.zeros(len(responses), dtype=bool) if truncated is None else truncated.data
        for row, ids in enumerate(responses):
            has = bool(ids) and ids[-1] in self.ends
            if has and self.end_token == "never":
                del ids[-1]
                has = False
            elif not has and self._wants_end(name, bool(cut[row])):
                if self.end is None:
                    raise LogError(
                        f"{chunk.file}: expected a tokenizer with an end token, found none; log "
                        "`response_ids`, or say --end-token never."
                    )
                ids.append(self.end)
                self.counts.added += 1
                has = True
            self.counts.ended += has
            self.counts.open += name == "response_ids" and not has and not cut[row]

    def _wants_end(self, name: str, cut: bool) -> bool:
        if self.end_token == "auto":
            return name == "response" and not cut  # ids are what was sampled: nothing is added
        return self.end_token == "always" and not cut

    def _check(self, row: int, prompt: tuple, response: tuple, problems: Problems) -> None:
        (prompt_name, before), (name, ids) = prompt, response
        limits = self.limits
        if not ids:
            problems.add(row, name, "has no token to score; expected at least one")
        if not before:
            problems.add(
                row,
                prompt_name,
                "has no token; expected at least one (the first response token follows it)",
            )
        if limits.context is not None and len(before) + len(ids) > limits.context:
            problems.add(
                row,
                name,
                f"ends at token {len(before) + len(ids)} with its prompt; the models take "
                f"{limits.context}",
            )
        for which, tokens in (prompt, response):
            if tokens and max(tokens) >= limits.vocabulary:
                problems.add(
                    row,
                    which,
                    f"gives token {max(tokens)}; a model knows {limits.vocabulary} only: use the "
                    "models' own tokenizer",
                )

    def refuse_other_tokens(self) -> None:
        """Raise where responses in text have other tokens here than those that were sampled.

        Raises:
            LogError: They have, and nobody asked to score them all the same.
        """
        wrong = self.counts.respelled + self.counts.recounted
        if wrong and not self.retokenise:
            raise LogError(
                f"{self._other}; so {wrong:,} of {self.counts.text:,} responses would get the "
                "log-prob of tokens that nobody sampled, off by tens of nats. Log token ids "
                "(`response_ids`; taut's recorder does), or say --retokenise: the output is then "
                "marked as an estimate."
            )

    def _compare(self, values: list, prompts: list, responses: list, chunk: Chunk) -> None:
        """Count responses whose tokens spell another text, or whose log counted other tokens."""
        counted = chunk.columns.get("n_tokens")
        for row, (value, ids) in enumerate(zip(values, responses, strict=True)):
            text = _response_text(value)
            if not text or row in chunk.problems.first:
                continue
            where = f"{chunk.file}:{chunk.numbers[row]}: "
            bare = ids[:-1] if ids[-1] in self.ends else ids
            known = -1 if counted is None else int(counted.data[row])
            if known >= 0 and known not in (len(ids), len(bare)):
                self.counts.recounted += 1
                self._other = self._other or (
                    f"{where}expected the {known} tokens that the log counted, found {len(ids)}"
                )
            elif text not in (self._behind(prompts[row], bare), self._behind(prompts[row], ids)):
                self.counts.respelled += 1
                self._other = self._other or (
                    f"{where}expected tokens that spell the response, found others"
                )

    def _behind(self, prompt: list[int], ids: list[int]) -> str:
        """Return what ids spell behind a prompt: at a beginning, some tokenizers drop a space."""
        start = self._spell(prompt[-1:])
        if "\ufffd" in start:  # half a character
            return self._spell(ids)
        return self._spell(prompt[-1:] + ids).removeprefix(start)

    def _spell(self, ids: list[int]) -> str:
        return self.tokenizer.decode(
            ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )


def _encode(tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Tokenise texts as they are, nothing added."""
    return tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]


def _prompt_ids(tokenizer, text: str) -> list[int]:
    """Tokenise a prompt with the tokenizer's beginning token, once, and without an end token."""
    bare = _encode(tokenizer, [text])[0]
    begin = tokenizer.bos_token_id
    if begin is None or bare[:1] == [begin]:
        return bare
    whole = tokenizer(text, verbose=False)["input_ids"]
    return [begin, *bare] if whole[:1] == [begin] else bare


def _id_problem(value, vocabulary: int) -> str | None:
    if not isinstance(value, list):
        return f"is a {type(value).__name__}; expected a list of token ids"
    for at, token in enumerate(value):
        if type(token) is not int:
            return f"is {json.dumps(token)[:40]} at token {at + 1}; expected a token id"
        if not 0 <= token < vocabulary:
            return (
                f"is {token} at token {at + 1}; expected an id from 0 to {vocabulary - 1}, the "
                "vocabulary that all models share: cut masks and padding where the log is made"
            )
    return None


def _is_chat(value) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(m, dict) and isinstance(m.get("role"), str) for m in value)
    )


def _prompt_problem(value) -> str | None:
    if value is None or type(value) is int or _is_chat(value):
        return None
    if not isinstance(value, str):
        return "is neither text nor chat messages (a list of objects with role and content)"
    if value.lstrip().startswith("[") and '"role"' in value:
        try:
            if _is_chat(json.loads(value)):
                return (
                    "is chat messages written as text; expected the list itself, or the text that "
                    "the policy was given, or `prompt_ids`"
                )
        except ValueError:
            return None
    return None


def _response_text(value) -> str | None:
    if isinstance(value, str):
        return value
    if type(value) is int:
        return str(value)
    if _is_chat(value) and len(value) == 1 and isinstance(value[0].get("content"), str):
        return value[0]["content"]
    return None


def _as_text(value) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
