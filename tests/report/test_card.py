from __future__ import annotations

from typing import Any

import yaml
from markdown_it import MarkdownIt

from unrolled.report import model_card


def head_and_body(card: str) -> tuple[dict[str, Any], str]:
    empty, head, body = card.split("---\n", 2)
    assert not empty
    return yaml.safe_load(head), body


def rendered(body: str) -> str:
    return MarkdownIt("commonmark").enable("table").render(body)


def card(**given: Any) -> str:
    wanted = {
        "title": "A language model",
        "description": "Learned from a text.\n\nCharacter by character.",
        "facts": [("cell", "duet"), ("hidden_size", "256")],
        "figures": [("held out, bits", "1.799")],
        "usage": 'import unrolled\n\nrun = unrolled.load("runs/mine")',
    }
    return model_card(**{**wanted, **given})


def test_the_head_of_a_card_parses() -> None:
    head, body = head_and_body(card(tags=["text-generation", "yes", "a: b\n- c", "한국어", "\x00\ud800"]))
    assert head["library_name"] == "unrolled"
    assert {"recurrent-neural-network", "text-generation", "yes", "a: b\n- c", "한국어"} < set(head["tags"])
    assert body.startswith("\n# A language model\n\n")


def test_a_card_has_its_parts_in_order() -> None:
    html = rendered(head_and_body(card())[1])
    places = [html.index(part) for part in ("<h1>A language", "<p>Character", "1.799", "hidden_size", "unrolled.load")]
    assert places == sorted(places)
    assert '<code class="language-python">' in html


def test_a_part_with_nothing_in_it_is_left_out() -> None:
    assert "##" not in card(facts=[], figures=[], usage=" ")


def test_text_reads_as_it_is_written() -> None:
    odd = "- *a* | `b` <script>alert(1)</script> [c](d) __e__ & $f$"
    body = head_and_body(card(title=odd, description=f"1. {odd}\n\n{odd}", facts=[(odd, f"{odd}\nnext")]))[1]
    html = rendered(body)
    shown = "*a* | `b` &lt;script&gt;alert(1)&lt;/script&gt; [c](d) __e__ &amp; $f$"
    assert f"<h1>- {shown}</h1>" in html
    assert f"<p>1. - {shown}</p>" in html
    assert f"<p>- {shown}</p>" in html
    assert f"<td>- {shown} next</td>" in html
    assert "<script" not in html


def test_code_with_a_fence_in_it_stays_in_its_own() -> None:
    html = rendered(head_and_body(card(usage='print("""\n```\n# no heading\n""")'))[1])
    assert html.count("<h1>") == 1


def test_what_no_file_can_hold_is_replaced() -> None:
    card(title="\ud800\x00", usage="\ud800").encode()
