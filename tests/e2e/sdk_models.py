"""What the tests of real clients share: models that embed, and models that call tools although they know nothing.

A model with random weights calls a tool because the grammar that `tool_choice` makes allows nothing else from the
token `<tool_call>` on, and because a bias prefers that token to everything that may stand before it.
"""

from __future__ import annotations

from pathlib import Path

from tests.tiny_gguf import FIRST_MORE, write_embedding_model, write_llama

HELLO = [{"role": "user", "content": "Hello"}]
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Rome", "Oslo"]}},
    "required": ["city"],
}
_TEMPLATE = """\
{%- if tools %}<|system|>Tools: {% for tool in tools %}{{ tool | tojson }}
{% endfor %}Answer with <tool_call>{"name": NAME, "arguments": ARGUMENTS}</tool_call></s>{% endif %}
{%- for message in messages %}<|{{ message.role }}|>{{ message.content or '' }}
{%- for call in message.tool_calls or [] -%}
<tool_call>{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}</tool_call>
{%- endfor %}</s>
{%- endfor %}
{%- if add_generation_prompt %}<|assistant|>{% endif %}
"""


def write_models(folder: Path) -> list[object]:
    """A chat model `a`, one that embeds, `e`, one that calls tools, `t`; returns the arguments of `lr serve`."""
    models = folder / "models"
    models.mkdir(exist_ok=True)
    write_llama(models / "a.gguf", n_ctx=4096)
    write_llama(models / "t.gguf", n_ctx=4096, tokens=("<tool_call>",))
    write_embedding_model(models / "e.gguf")
    template = folder / "tools.jinja"
    template.write_text(_TEMPLATE, encoding="utf-8")
    preset = folder / "preset.ini"
    preset.write_text(
        f"[e]\nembeddings = true\n[t]\nchat-template-file = {template}\nlogit-bias = {FIRST_MORE}+100\ntemp = 0\n",
        encoding="utf-8",
    )
    return ["--models-dir", models, "--models-preset", preset, "--threads", 1]
