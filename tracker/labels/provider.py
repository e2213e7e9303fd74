"""A question with pictures to an OpenAI-compatible server: bounded in time and size, no secrets in errors."""

import base64
import logging
import os
import re
import time
from pathlib import Path
from typing import Any

import msgspec

from tracker.config import CONTROL_CHARACTERS, DescribeConfig
from tracker.errors import ConfigError, Unavailable

MAX_ANSWER_BYTES = 2**18
MAX_TEXT = 2000  # characters that are kept
LOGGERS = ("openai", "httpx", "httpx2", "httpcore", "httpcore2")  # they write down what the server said
INSTALL = "describe needs the package openai: pip install openai"

_CONTROL = re.compile(f"[{CONTROL_CHARACTERS}]+")  # line breaks among them become blanks


class _Message(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Message


class _Completion(msgspec.Struct):
    choices: list[_Choice]


class Provider:
    """Serves several threads."""

    def __init__(self, config: DescribeConfig) -> None:
        """Raises ConfigError where the package or the key is missing."""
        try:
            import openai
        except ImportError as error:
            raise ConfigError([f"{INSTALL} ({error})"]) from None
        for name in LOGGERS:
            logging.getLogger(name).setLevel(logging.WARNING)
        self._config = config
        self._error = openai.OpenAIError
        self._client = openai.OpenAI(
            base_url=config.url, api_key=secret_of(config) or "none", timeout=config.timeout_s, max_retries=0
        )

    def close(self) -> None:
        self._client.close()

    def ask(self, question: str, jpegs: list[bytes]) -> str:
        """The answer as plain text. Raises Unavailable, in words that hold nothing that the server said."""
        content = [{"type": "text", "text": question}, *map(_image_part, jpegs)]
        asked: dict[str, Any] = {
            "model": self._config.model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": self._config.max_tokens,
        }
        try:
            return plain(_text_of(self._answer(asked)))
        except (self._error, OSError) as error:
            status = getattr(error, "status_code", None)
            what = f"answered with status {status}" if status else f"cannot be asked ({type(error).__name__})"
            raise Unavailable(f"the describing server {what}") from None
        except Unavailable:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a broken answer brings about in the client
            raise Unavailable(f"the describing server's answer broke off ({type(error).__name__})") from None

    def _answer(self, asked: dict[str, Any]) -> bytes:
        deadline_s = time.monotonic() + self._config.timeout_s
        parts, size = [], 0
        with self._client.chat.completions.with_streaming_response.create(**asked) as response:
            for part in response.iter_bytes():
                parts.append(part)
                size += len(part)
                if size > MAX_ANSWER_BYTES:
                    raise Unavailable(f"the describing server's answer has more than {MAX_ANSWER_BYTES} bytes")
                if time.monotonic() > deadline_s:
                    raise Unavailable(f"the describing server took more than {self._config.timeout_s:g} s")
        return b"".join(parts)


def _image_part(jpeg: bytes) -> dict[str, Any]:
    url = f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def _text_of(answer: bytes) -> str:
    try:
        completion = msgspec.json.decode(answer, type=_Completion)
    except (ValueError, RecursionError):
        raise Unavailable("the describing server's answer is not one of a chat") from None
    text = completion.choices[0].message.content if completion.choices else None
    if not text or not plain(text):
        raise Unavailable("the describing server said nothing")
    return text


def plain(text: str) -> str:
    """Text from a model is data: one line, bounded, without control characters."""
    return " ".join(_CONTROL.sub(" ", text).split())[:MAX_TEXT]


def secret_of(config: DescribeConfig) -> str | None:
    """The key, read where the configuration says. Raises ConfigError."""
    if config.api_key_env is not None:
        if not (key := os.environ.get(config.api_key_env, "")):
            raise ConfigError([f"describe.api_key_env: the variable {config.api_key_env} is not set"])
        return key
    if config.api_key_file is not None:
        try:
            return Path(config.api_key_file).expanduser().read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            raise ConfigError([f"describe.api_key_file: {config.api_key_file} cannot be read"]) from None
    return None
